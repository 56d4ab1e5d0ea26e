"""Client of a token store that the vendor offers over HTTP, as described in docs/token-store-openapi.yaml."""

from __future__ import annotations

import logging
import re
import ssl
import time
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from scanner import __version__
from scanner.detection import redact
from scanner.records.states import Decision
from scanner.retries import tries
from scanner.tls import trusted
from scanner.tokens.protocol import Disabled, LookUp, StoreUnavailable, TokenRecord

DIGESTS_A_REQUEST = 200
MAX_ANSWER_BYTES = 8 * 1024 * 1024
MAX_RECIPIENTS = 50
MAX_TEXT_LENGTH = 255
MAX_REDACTED_LENGTH = 8192
"""Only this many characters of a name are redacted and used."""
MAX_EMAIL_LENGTH = 320
TIMEOUT = httpx.Timeout(4.0, connect=2.0)
EXCHANGE_SECONDS = 6.0
"""The maximum number of seconds for one request and its whole answer."""
ATTEMPTS = 3
ATTEMPTS_SECONDS = 8.0
"""No further attempt begins after this time."""

_DIGEST = re.compile(r"[0-9a-f]{64}")

_log = logging.getLogger(__name__)


class _Transient(StoreUnavailable):
    """A failure after which an immediate retry may succeed."""


class HttpStore:
    """A client of the token store at `url`. Threads can share it."""

    def __init__(self, url: str, secret: str | None = None, *, tls: ssl.SSLContext | None = None) -> None:
        self._url = url.rstrip("/")
        headers = {"User-Agent": f"r8scan/{__version__}", "Accept": "application/json"}
        headers["Accept-Encoding"] = "identity"
        if secret:
            headers["Authorization"] = f"Bearer {secret}"
        self._http = httpx.Client(
            headers=headers,
            timeout=TIMEOUT,
            verify=tls if tls is not None else trusted(),
            follow_redirects=False,
            trust_env=False,
        )

    def close(self) -> None:
        self._http.close()

    def look_up(self, digests: Collection[str]) -> LookUp:
        """Return what the token store knows about tokens (`POST /v1/tokens/lookup`).

        Raises:
            StoreUnavailable: The store did not answer, or its answer cannot be used.
        """
        records: dict[str, TokenRecord] = {}
        not_checked: set[str] = set()
        warning = ""
        ordered = sorted(set(digests))
        for start in range(0, len(ordered), DIGESTS_A_REQUEST):
            asked = frozenset(ordered[start : start + DIGESTS_A_REQUEST])
            value = self._post("/v1/tokens/lookup", {"digests": sorted(asked)}, {})
            found = _looked_up(value, asked)
            records.update(found.records)
            not_checked.update(found.not_checked)
            warning = warning or found.warning
        if warning:
            _log.error("%s; the rest of the answer is used", warning)
        return LookUp(records, frozenset(not_checked), warning)

    def disable(self, digest: str, *, key: str, reason: str, cause: str) -> Disabled:
        """Disable a token (`POST /v1/tokens/disable`) with the idempotency key `key`.

        Raises:
            StoreUnavailable: The store did not answer, or its answer cannot be used.
        """
        body = {"digest": digest, "reason": reason, "cause": cause}
        return _disabled(self._post("/v1/tokens/disable", body, {"Idempotency-Key": key}))

    def register_canary(self, digest: str, *, hint: str) -> None:
        """Add a test token to the token store (`POST /v1/tokens/canary`).

        Raises:
            StoreUnavailable: The store refused the token, or did not answer.
        """
        self._post("/v1/tokens/canary", {"digest": digest, "hint": hint}, {})

    def _post(self, path: str, body: Mapping[str, Any], headers: Mapping[str, str]) -> Mapping[str, Any]:
        for attempt in tries(_Transient, attempts=ATTEMPTS, timeout=ATTEMPTS_SECONDS):
            with attempt:
                return self._post_once(path, body, headers)
        raise AssertionError("unreachable")  # the last attempt raises

    def _post_once(self, path: str, body: Mapping[str, Any], headers: Mapping[str, str]) -> Mapping[str, Any]:
        deadline = time.monotonic() + EXCHANGE_SECONDS
        try:
            with self._http.stream("POST", self._url + path, json=body, headers=dict(headers)) as response:
                content = _content(response, deadline)
        except httpx.HTTPError as err:
            raise _Transient(f"the token store cannot be reached ({type(err).__name__})") from err
        status = response.status_code
        if status in (408, 425, 429) or status >= 500:
            raise _Transient(f"the token store answered {status}")
        if status in (401, 403):
            raise StoreUnavailable(f"the token store answered {status}: check R8SCAN_TOKEN_STORE_SECRET")
        if status != 200:
            raise StoreUnavailable(f"the token store answered {status}: run r8scan store check")
        try:
            value = httpx.Response(200, content=content).json()
        except (ValueError, RecursionError) as err:
            raise _wrong("it is not JSON") from err
        if not isinstance(value, dict):
            raise _wrong("it is not a JSON object")
        return value


def tls_context(cert_file: Path | None, key_file: Path | None, ca_file: Path | None) -> ssl.SSLContext | None:
    """Return a TLS context with the given client certificate and certificate authority. Without files, return None.

    Raises:
        OSError: A file cannot be read.
        ssl.SSLError: A file is not a valid certificate or key.
    """
    if cert_file is None and ca_file is None:
        return None
    context = ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
    if cert_file is not None:
        context.load_cert_chain(str(cert_file), str(key_file) if key_file else None)
    return context


def _content(response: httpx.Response, deadline: float) -> bytes:
    if response.headers.get("content-encoding", "identity").strip().lower() != "identity":
        # Refuse a compressed answer, because httpx decompresses before the size can be checked.
        raise _wrong("it is compressed")
    parts, size = [], 0
    for part in response.iter_bytes():
        size += len(part)
        if time.monotonic() > deadline:
            raise _Transient("the token store's answer takes too long")
        if size > MAX_ANSWER_BYTES:
            raise _wrong(f"it is larger than {MAX_ANSWER_BYTES} bytes")
        parts.append(part)
    return b"".join(parts)


def _looked_up(value: Mapping[str, Any], asked: frozenset[str]) -> LookUp:
    """Return the result of a look-up. Tokens with malformed records are in `not_checked`."""
    listed, unasked = value.get("tokens"), value.get("not_checked", [])
    if not isinstance(listed, list) or not isinstance(unasked, list):
        raise _wrong("`tokens` and `not_checked` must be lists")
    not_checked = {digest for digest in unasked if isinstance(digest, str) and digest in asked}
    if len(not_checked) != len(unasked):
        raise _wrong("`not_checked` holds what was not asked for")
    records: dict[str, TokenRecord] = {}
    warning = ""
    for entry in listed:
        try:
            record = _record(entry)
            if record.digest not in asked:
                raise _wrong("it holds a token that was not asked for")
        except StoreUnavailable as err:
            warning = warning or str(err)
            digest = entry.get("digest") if isinstance(entry, dict) else None
            # Without a valid digest, the record may be about any requested token, so treat none as unknown.
            not_checked |= {digest} if digest in asked else asked
        else:
            records[record.digest] = record
    return LookUp(records, frozenset(not_checked - records.keys()), warning)


def _record(entry: Any) -> TokenRecord:
    if not isinstance(entry, dict):
        raise _wrong("a token must be an object")
    digest = entry.get("digest")
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise _wrong("`digest` must be 64 lower-case hex digits")
    account = entry.get("account")
    if account is not None and not isinstance(account, dict):
        raise _wrong("`account` must be an object or null")
    return TokenRecord(
        id=_text(entry, "id", needed=True)[:64],
        digest=digest,
        name=_text(entry, "name"),
        hint=_text(entry, "hint")[:16],
        account_id=_text(account, "id", needed=True)[:64] if account else None,
        account_name=(_text(account, "name") or None) if account else None,
        recipients=_recipients(account) if account else (),
        created_at=_time(entry, "created_at"),
        last_used_at=_time(entry, "last_used_at"),
        disabled_at=_time(entry, "disabled_at"),
        disabled_reason=_text(entry, "disabled_reason") or None,
        is_protected=entry.get("protected") is True,
    )


def _disabled(value: Mapping[str, Any]) -> Disabled:
    result = value.get("result")
    if result not in (Decision.DISABLED, Decision.ALREADY_DISABLED, Decision.UNKNOWN):
        raise _wrong("`result` must be disabled, already_disabled or unknown")
    key = value.get("idempotency_key")
    if key is not None and not isinstance(key, str):
        raise _wrong("`idempotency_key` must be text or null")
    at = _time(value, "disabled_at")
    if result != Decision.UNKNOWN and at is None:
        raise _wrong("`disabled_at` is missing")
    return Disabled(Decision(result), at, key)


def _text(value: Mapping[str, Any], name: str, *, needed: bool = False) -> str:
    found = value.get(name)
    if isinstance(found, int) and not isinstance(found, bool):
        found = str(found)
    if found is None and not needed:
        return ""
    if not isinstance(found, str) or (needed and not found):
        raise _wrong(f"`{name}` must be text")
    # An owner may have chosen this text. Redact it before shortening it, because a part of a token is not recognized.
    clean = redact(found[:MAX_REDACTED_LENGTH])[:MAX_TEXT_LENGTH]
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in clean)


def _recipients(account: Mapping[str, Any]) -> tuple[str, ...]:
    listed = account.get("recipients", [])
    if not isinstance(listed, list) or not all(isinstance(one, str) for one in listed):
        raise _wrong("`recipients` must be a list of mail addresses")
    given = [one.strip() for one in listed if one.strip()]
    usable = [one for one in given if len(one) <= MAX_EMAIL_LENGTH and one.isprintable()]
    unique = tuple(dict.fromkeys(usable))
    if len(usable) < len(given) or len(unique) > MAX_RECIPIENTS:
        _log.error(
            "the store returned recipients that are no mail addresses, or more than %d: left out",
            MAX_RECIPIENTS,
        )
    return unique[:MAX_RECIPIENTS]


def _time(value: Mapping[str, Any], name: str) -> datetime | None:
    found = value.get(name)
    if found is None:
        return None
    try:
        at = datetime.fromisoformat(found)
    except (TypeError, ValueError):
        raise _wrong(f"`{name}` must be a time such as 2026-11-24T15:00:00Z, or null") from None
    if at.tzinfo is None:
        raise _wrong(f"`{name}` must say its zone: 2026-11-24T15:00:00Z")
    try:
        return at.astimezone(UTC)
    except OverflowError:
        raise _wrong(f"`{name}` is a time outside the calendar") from None


def _wrong(why: str) -> StoreUnavailable:
    return StoreUnavailable(f"the token store's answer breaks the contract: {why}; run r8scan store check")
