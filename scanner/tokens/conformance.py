"""Checks that a vendor's token store follows r8scan's HTTP interface."""

from __future__ import annotations

import contextlib
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import httpx

from scanner.records.states import Cause, Decision
from scanner.tokens.http import DIGESTS_A_REQUEST, HttpStore
from scanner.tokens.protocol import StoreUnavailable

UNKNOWN = "0" * 63 + "1"
LOOKUP, DISABLE, CANARY = "/v1/tokens/lookup", "/v1/tokens/disable", "/v1/tokens/canary"
SLOW_SECONDS = 2.0
TIMEOUT = httpx.Timeout(10.0)


@dataclass(frozen=True, slots=True)
class Rule:
    """The result of checking one rule. If the rule is broken, `advice` describes what is wrong."""

    name: str
    is_kept: bool
    advice: str = ""


class _Broken(Exception):
    """The token store does not follow a rule. The message says what was observed."""


_NamedRule = tuple[str, Callable[[], None]]


def check(
    url: str,
    secret: str | None,
    *,
    known: str | None = None,
    may_disable: bool = False,
    tls: ssl.SSLContext | None = None,
    stranger_tls: ssl.SSLContext | None = None,
) -> Iterator[Rule]:
    """Check whether a token store follows the rules of the interface, and yield the result of each rule.

    Args:
        secret: The secret that r8scan sends. None: the store identifies clients by certificates.
        known: The digest of a token that is in the store. None: skip the rules that need a known token.
        may_disable: Whether to disable the token `known`, to check the rules about disabling.
        tls: The TLS context with r8scan's client certificate, or None.
        stranger_tls: A TLS context without r8scan's client certificate, which the store must refuse.
    """
    with (
        httpx.Client(base_url=url.rstrip("/"), timeout=TIMEOUT, trust_env=False, verify=tls or True) as http,
        httpx.Client(base_url=url.rstrip("/"), timeout=TIMEOUT, trust_env=False, verify=stranger_tls or True) as bare,
        contextlib.closing(HttpStore(url, secret, tls=tls)) as store,
    ):
        checked = _Check(http, store, secret, known)
        strangers = ("a client without the secret is refused (401)", checked.refuses_strangers)
        if stranger_tls is not None and not secret:
            strangers = ("a client without a certificate is refused", lambda: checked.refuses_without_certificate(bare))
        rules = _rules(checked, strangers, has_known=known is not None, may_disable=may_disable)
        for number, (name, rule) in enumerate(rules):
            try:
                if number == 0:
                    checked.can_be_reached()
                rule()
            except httpx.TransportError as err:
                if number == 0:
                    # Show only the text of a ConnectError. Other errors may repeat text of the server.
                    why = str(err).partition("] ")[2] if isinstance(err, httpx.ConnectError) else type(err).__name__
                    advice = f"{why}; correct the address, start the store, or look at the network"
                    yield Rule("the store can be reached", False, advice)
                    return  # every other rule would fail for the same reason
                yield Rule(name, False, f"it cannot be reached ({type(err).__name__})")
            except (_Broken, StoreUnavailable) as err:
                yield Rule(name, False, str(err))
            except httpx.HTTPError as err:
                yield Rule(name, False, f"it cannot be reached ({type(err).__name__})")
            else:
                yield Rule(name, True)


def _rules(checked: _Check, strangers: _NamedRule, *, has_known: bool, may_disable: bool) -> list[_NamedRule]:
    """Return the names and functions of the rules that can be checked, in order."""
    rules: list[_NamedRule] = [
        ("the store answers and accepts the secret", checked.takes_the_secret),
        strangers,
        ("an unknown digest is left out of `tokens`", checked.leaves_out_the_unknown),
        ("an empty list of digests returns no tokens", checked.takes_an_empty_list),
        ("a body that is not JSON is refused (400)", checked.refuses_what_is_no_json),
        ("a malformed digest is refused (400)", checked.refuses_what_is_no_digest),
        (f"{DIGESTS_A_REQUEST} digests are answered within {SLOW_SECONDS:.0f} s", checked.takes_a_batch),
        ("too many digests are refused or answered, without a server error", checked.survives_too_many),
        ("disabling an unknown digest returns `unknown`", checked.knows_what_it_cannot_disable),
        ("disabling without an Idempotency-Key is refused (400)", checked.needs_a_key),
    ]
    if has_known:
        rules += [
            ("a known digest returns a record of the contract's form", checked.describes_a_token),
            ("a request with known and unknown digests returns the known ones", checked.tells_them_apart),
        ]
    if has_known and may_disable:
        rules += [
            ("a disable is recorded with its key", checked.disables),
            ("a repeated key returns the same answer", checked.repeats),
            ("another key returns `already_disabled` and the first key", checked.names_the_first_key),
            ("a look-up shows the disable at once", checked.shows_it),
        ]
    return rules


class _Check:
    def __init__(self, http: httpx.Client, store: HttpStore, secret: str | None, known: str | None) -> None:
        self._http, self._store, self._known = http, store, known or UNKNOWN
        self._headers = {"Authorization": f"Bearer {secret}"} if secret else {}
        self._key = f"conformance-{time.time_ns()}"

    def can_be_reached(self) -> None:
        """Raise TransportError if the token store does not answer."""
        self._http.post(LOOKUP, json={"digests": []}, headers=self._headers)

    def takes_the_secret(self) -> None:
        self._store.look_up([UNKNOWN])

    def refuses_strangers(self) -> None:
        for headers in ({}, {"Authorization": "Bearer wrong"}):
            for path in (LOOKUP, DISABLE):
                answer = self._http.post(path, json={"digests": [UNKNOWN], "digest": UNKNOWN}, headers=headers)
                _expect(answer, 401)

    def refuses_without_certificate(self, stranger: httpx.Client) -> None:
        """Raise an error if the token store accepts a client without a certificate."""
        self.takes_the_secret()  # check first that the store works, because a broken store refuses every client
        headers = {"Idempotency-Key": f"{self._key}-stranger"}
        for path in (LOOKUP, DISABLE):
            body = {"digests": [UNKNOWN], "digest": UNKNOWN, "reason": "conformance", "cause": Cause.COMPROMISE_SIGNS}
            try:
                answer = stranger.post(path, json=body, headers=headers)
            except (httpx.NetworkError, httpx.RemoteProtocolError):
                continue
            _expect(answer, 400, 401, 403)

    def leaves_out_the_unknown(self) -> None:
        found = self._store.look_up([UNKNOWN])
        if found.not_checked:
            raise _Broken("it is in `not_checked`: that is for digests that could not be looked up just now")

    def takes_an_empty_list(self) -> None:
        answer = self._post(LOOKUP, {"digests": []})
        _expect(answer, 200)
        if answer.json().get("tokens") != []:
            raise _Broken("`tokens` is not []")

    def refuses_what_is_no_json(self) -> None:
        _expect(self._http.post(LOOKUP, content=b"{", headers=self._headers), 400)

    def refuses_what_is_no_digest(self) -> None:
        for wrong in (["abc"], [5], "x", None, [UNKNOWN.upper().replace("0", "G")]):
            _expect(self._post(LOOKUP, {"digests": wrong}), 400)

    def takes_a_batch(self) -> None:
        started = time.monotonic()
        self._store.look_up([f"{number:064x}" for number in range(DIGESTS_A_REQUEST)])
        seconds = time.monotonic() - started
        if seconds > SLOW_SECONDS:
            raise _Broken(f"it took {seconds:.1f} s: put an index on the digest")

    def survives_too_many(self) -> None:
        many = [f"{number:064x}" for number in range(DIGESTS_A_REQUEST * 10)]
        _expect(self._post(LOOKUP, {"digests": many}), 200, 400, 413)

    def knows_what_it_cannot_disable(self) -> None:
        done = self._store.disable(
            UNKNOWN, key=f"{self._key}-unknown", reason="conformance", cause=Cause.COMPROMISE_SIGNS
        )
        if done.result != Decision.UNKNOWN:
            raise _Broken(f"it says {done.result}")

    def needs_a_key(self) -> None:
        _expect(self._post(DISABLE, {"digest": UNKNOWN, "reason": "conformance", "cause": Cause.COMPROMISE_SIGNS}), 400)

    def describes_a_token(self) -> None:
        found = self._store.look_up([self._known])
        if found.warning:
            raise _Broken(found.warning)
        record = found.records.get(self._known)
        if record is None:
            raise _Broken("the digest that you gave is unknown to it")
        if not record.recipients:
            raise _Broken("the token's account has no recipients: its owner could not be notified")

    def tells_them_apart(self) -> None:
        found = self._store.look_up([self._known, UNKNOWN])
        if set(found.records) != {self._known} or found.not_checked:
            raise _Broken("it gives others")

    def disables(self) -> None:
        done = self._disable(self._key)
        if done[:2] != (Decision.DISABLED, self._key):
            raise _Broken(f"it says {done[0]} under the key {done[1]}: was the token live?")

    def repeats(self) -> None:
        first, again = self._disable(self._key), self._disable(self._key)
        if first != again or again[1] != self._key:
            raise _Broken("the second answer differs: keep the key that disabled, and the time")

    def names_the_first_key(self) -> None:
        done = self._disable(f"{self._key}-other")
        if done[:2] != (Decision.ALREADY_DISABLED, self._key):
            raise _Broken(f"it says {done[0]} under the key {done[1]}")

    def shows_it(self) -> None:
        record = self._store.look_up([self._known]).records.get(self._known)
        if record is None or record.disabled_at is None:
            raise _Broken("`disabled_at` is not set")

    def _disable(self, key: str) -> tuple[str, str | None, object]:
        done = self._store.disable(self._known, key=key, reason="conformance check", cause=Cause.COMPROMISE_SIGNS)
        return done.result, done.key, done.disabled_at

    def _post(self, path: str, body: object) -> httpx.Response:
        return self._http.post(path, json=body, headers=self._headers)


def _expect(answer: httpx.Response, *statuses: int) -> None:
    if answer.status_code not in statuses:
        wanted = " or ".join(map(str, statuses))
        raise _Broken(f"it answers {answer.status_code}, not {wanted}")
