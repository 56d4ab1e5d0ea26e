"""Tests for the import of a vendor's list of tokens."""

from __future__ import annotations

import io
import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanner.detection import sha256_digest
from scanner.records.database import Database
from scanner.tokens import sql
from scanner.tokens.imports import BadRow, ImportedToken, read_rows
from scanner.tokens.registry import ImportRun


def rows(text: str) -> list[tuple[int, ImportedToken | BadRow]]:
    return list(read_rows(io.StringIO(text, newline=""), sha256_digest))


def good(text: str) -> list[ImportedToken]:
    found = [row for _, row in rows(text)]
    assert not [row for row in found if isinstance(row, BadRow)]
    return [row for row in found if isinstance(row, ImportedToken)]


def test_csv_with_tokens_and_json_with_digests_import_the_same(fresh_token: Callable[[], str]) -> None:
    token = fresh_token()
    digest = sha256_digest(token.encode())
    from_csv = good(f"email,account,name,token\nana@example.com,acme,ci,{token}\n")
    value = {"email": "ana@example.com", "account": "acme", "name": "ci", "sha256": digest.upper()}
    from_json = good(json.dumps(value))
    assert (from_csv[0].digest, from_csv[0].account, from_csv[0].emails) == (digest, "acme", ("ana@example.com",))
    assert from_csv[0].hint == f"{token[:6]}…{token[-4:]}"
    assert (from_json[0].digest, from_json[0].hint) == (digest, "")


def test_invalid_rows_are_named_by_line_and_the_others_are_imported(fresh_token: Callable[[], str]) -> None:
    token = fresh_token()
    lines = [
        "email,account,name,token",
        f"ana@example.com,acme,ci,{token}",
        f"not an address,acme,ci,{token}",
        f'ana@example.com,acme,"two\nlines",{token}',
        "ana@example.com,acme,ci,r8_short",
        "ana@example.com,acme",
        "",
        "ana@example.com,acme,ci,",
        f"a@example.com;b@example.com,acme,ci,{fresh_token()}",
    ]
    found = rows("\n".join(lines))
    bad = {number: str(row) for number, row in found if isinstance(row, BadRow)}
    assert sorted(bad) == [3, 4, 6, 7, 9]
    assert not any(token in message for message in bad.values())
    last = found[-1][1]
    assert isinstance(last, ImportedToken)
    assert last.emails == ("a@example.com", "b@example.com")


@pytest.mark.parametrize(
    "line", ["{", "[]", "1", '{"token": 5}', '{"token": "x"}', "{}", '{"a":' * 2000, "x" * 200_000]
)
def test_no_json_line_crashes_the_import(line: str, fresh_token: Callable[[], str]) -> None:
    head, tail = (json.dumps({"token": fresh_token()}) for _ in range(2))
    found = rows(f"{head}\n{line}\n{tail}\n")
    assert [number for number, row in found if isinstance(row, BadRow)] == [2]
    assert [number for number, row in found if isinstance(row, ImportedToken)] == [1, 3]


@given(st.text(max_size=300))
def test_no_text_crashes_the_import(text: str) -> None:
    rows(text)
    rows(f"email,account,name,token\n{text}")


def test_a_repeated_import_updates_names_and_owners_and_enables_no_token(
    database: Database, fresh_token: Callable[[], str]
) -> None:
    digest = sha256_digest(fresh_token().encode())
    with database.write() as session:
        first = ImportedToken(digest, "r8_abc…wxyz", "old", "acme", ("a@example.com", "b@example.com"))
        ImportRun.begin().write(session, [first])
        assert sql.disable(session, digest, "test")
    with database.write() as session:
        ImportRun.begin().write(session, [ImportedToken(digest, "", "new", "acme", ("c@example.com",))])
    with database.read() as session:
        record = sql.look_up(session, [digest])[digest]
    assert (record.name, record.recipients, record.hint) == ("new", ("c@example.com",), "r8_abc…wxyz")
    assert record.disabled_at is not None


def test_recipients_of_one_account_add_up_within_an_import(database: Database, fresh_token: Callable[[], str]) -> None:
    digests = [sha256_digest(fresh_token().encode()) for _ in range(2)]
    run = ImportRun.begin()
    for digest, email in zip(digests, ("a@example.com", "b@example.com"), strict=True):
        with database.write() as session:
            run.write(session, [ImportedToken(digest, "", "", "acme", (email,))])
    with database.read() as session:
        assert sql.look_up(session, digests)[digests[0]].recipients == ("a@example.com", "b@example.com")


def test_every_token_is_listed_in_batches(database: Database, fresh_token: Callable[[], str]) -> None:
    digests = [sha256_digest(fresh_token().encode()) for _ in range(25)]
    with database.write() as session:
        ImportRun.begin().write(session, [ImportedToken(d, "", "", "acme", ()) for d in digests])
    with database.read() as session:
        assert sorted(record.digest for record in sql.listed(session, batch=10)) == sorted(digests)
