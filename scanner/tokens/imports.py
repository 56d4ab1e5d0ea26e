"""Reads a vendor's list of tokens, in CSV or JSON lines."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TextIO

from email_validator import EmailNotValidError, validate_email

from scanner.detection.digests import Digester
from scanner.detection.patterns.token_formats import described_formats, hint_of, is_hint, is_token

MAX_LINE_LENGTH = 64 * 1024
MAX_NAME_LENGTH = 255
MAX_RECIPIENTS = 50

_DIGEST = re.compile(r"[0-9a-fA-F]{64}")
_PLAIN_EMAIL = re.compile(
    r"[A-Za-z0-9_%+-]+(?:\.[A-Za-z0-9_%+-]+)*@(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?\.)+[A-Za-z]{2,63}"
)


class BadRow(ValueError):
    """A row cannot be imported. The message contains nothing of the row."""


@dataclass(frozen=True, slots=True)
class ImportedToken:
    """A token in one row of the list.

    `account` is the vendor's name for the account. `hint` is the token's first and last characters, or "".
    """

    digest: str
    hint: str
    name: str
    account: str | None
    emails: tuple[str, ...]


def read_rows(file: TextIO, digester: Digester) -> Iterator[tuple[int, ImportedToken | BadRow]]:
    """Yield the line number (from 1) of each row, and the row's token or the reason why it is invalid.

    Args:
        file: The list. Open it with errors="surrogateescape", so that invalid UTF-8 affects only its own row.
    """
    first = file.readline(MAX_LINE_LENGTH)
    if first.lstrip("\ufeff \t").startswith("{"):
        yield from _json_rows(first.lstrip("\ufeff"), file, digester)
    elif first.strip():
        yield from _csv_rows(first.lstrip("\ufeff"), file, digester)


def token_of(fields: Mapping[str, Any], digester: Digester) -> ImportedToken:
    """Return the token in a row of the list.

    Args:
        fields: The row's values by column: `token` or `sha256`, and optionally `email` (addresses separated by
            semicolons), `account`, `name` and `hint` (the token's first and last characters).

    Raises:
        BadRow: The row is invalid.
    """
    texts = {key: _text(fields.get(key), key) for key in ("email", "account", "name", "token", "sha256", "hint")}
    emails = _emails(texts["email"])
    digest, hint = _digest(texts["token"], texts["sha256"], digester)
    if not hint and is_hint(texts["hint"]):
        hint = texts["hint"]
    account = texts["account"] or (emails[0] if emails else None)
    return ImportedToken(digest, hint, texts["name"], account, emails)


def check_email(address: str) -> str:
    """Return the mail address in its normal form.

    Raises:
        BadRow: The text is not a mail address.
    """
    if _PLAIN_EMAIL.fullmatch(address) and len(address) < 255:
        return address
    return _unusual_email(address)


def _digest(token: str, digest: str, digester: Digester) -> tuple[str, str]:
    if token and digest:
        raise BadRow("has both token and sha256: give one of them")
    if token:
        if not is_token(token):
            raise BadRow(f"its token is not {described_formats()}")
        raw = token.encode("ascii")
        return digester(raw), hint_of(raw)
    if not digest:
        raise BadRow("has neither token nor sha256")
    if not _DIGEST.fullmatch(digest):
        raise BadRow("its sha256 is not 64 hex digits")
    return digest.lower(), ""


def _emails(text: str) -> tuple[str, ...]:
    addresses = [part.strip() for part in text.split(";") if part.strip()]
    if len(addresses) > MAX_RECIPIENTS:
        raise BadRow(f"has more than {MAX_RECIPIENTS} addresses")
    return tuple(dict.fromkeys(check_email(address) for address in addresses))


@lru_cache(maxsize=4096)
def _unusual_email(address: str) -> str:
    try:
        return str(validate_email(address, check_deliverability=False, test_environment=True).normalized)
    except EmailNotValidError as err:
        raise BadRow("its email is not a mail address") from err


def _text(value: Any, key: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise BadRow(f"its {key} is not text")
    text = value.strip()
    if len(text) > MAX_NAME_LENGTH and key != "email":
        raise BadRow(f"its {key} is longer than {MAX_NAME_LENGTH} characters")
    if not text.isprintable():
        raise BadRow(f"its {key} holds characters that cannot be printed")
    return text


def _json_rows(first: str, file: TextIO, digester: Digester) -> Iterator[tuple[int, ImportedToken | BadRow]]:
    number, line = 1, first
    while line:
        whole = line.endswith("\n") or len(line) < MAX_LINE_LENGTH
        if not whole:
            _skip_line(file)
        if line.strip():
            yield number, _one(_decoded(line) if whole else BadRow("is longer than a row may be"), digester)
        number, line = number + 1, file.readline(MAX_LINE_LENGTH)


def _decoded(line: str) -> Mapping[str, Any] | BadRow:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return BadRow("is not JSON")
    return value if isinstance(value, dict) else BadRow("is not a JSON object")


def _csv_rows(first: str, file: TextIO, digester: Digester) -> Iterator[tuple[int, ImportedToken | BadRow]]:
    header = [name.strip().lower() for name in next(csv.reader([first]))]
    if not {"token", "sha256"} & set(header):
        yield 1, BadRow("is the header and names neither token nor sha256: begin with email,account,name,token")
        return
    csv.field_size_limit(MAX_LINE_LENGTH)
    reader = csv.reader(_bounded_lines(file), strict=True)
    while True:
        number = reader.line_num + 2
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error:
            yield number, BadRow("is not CSV")
            continue
        if not row:
            continue
        if len(row) != len(header):
            yield number, BadRow(f"has {len(row)} fields instead of {len(header)}")
        else:
            yield number, _one(dict(zip(header, row, strict=True)), digester)


def _bounded_lines(file: TextIO) -> Iterator[str]:
    """Yield the lines of a CSV file. A line that is too long becomes an invalid row."""
    while line := file.readline(MAX_LINE_LENGTH):
        if line.endswith("\n") or len(line) < MAX_LINE_LENGTH:
            yield line
        else:
            _skip_line(file)
            yield '""\n'


def _one(fields: Mapping[str, Any] | BadRow, digester: Digester) -> ImportedToken | BadRow:
    if isinstance(fields, BadRow):
        return fields
    try:
        return token_of(fields, digester)
    except BadRow as err:
        return err


def _skip_line(file: TextIO) -> None:
    while True:
        rest = file.readline(MAX_LINE_LENGTH)
        if not rest or rest.endswith("\n"):
            return
