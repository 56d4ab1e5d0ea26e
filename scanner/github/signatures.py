"""Verifies GitHub's signatures of secret scanning alerts (ECDSA P-256 with SHA-256).

https://docs.github.com/code-security/secret-scanning/secret-scanning-partnership-program/secret-scanning-partner-program
"""

from __future__ import annotations

import base64
import binascii
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from scanner.github.client import GitHub, get_json
from scanner.github.errors import GitHubError

KEYS_PATH = "meta/public_keys/secret_scanning"
KEPT_SECONDS = 3600.0
"""Keys are fetched again after this time."""
REFETCH_SECONDS = 30.0
"""An unknown key id causes a fetch at most once in this time, because anybody can send one."""
WAIT_SECONDS = 10.0
"""An alert waits at most this long for the keys. GitHub abandons an alert after 30 seconds."""
MAX_WAITING = 2
"""At most this many alerts wait for keys. Each occupies a thread."""
MAX_KEYS = 100
MAX_ID_LENGTH = 128
MAX_SIGNATURE_LENGTH = 1024

_log = logging.getLogger(__name__)


class Forged(Exception):
    """The request is not signed with GitHub's key."""


class KeysUnavailable(Exception):
    """GitHub's keys cannot be fetched, so it is unknown whether the signature is valid."""


def parse_keys(value: Mapping[str, object]) -> dict[str, str]:
    """Return the keys in GitHub's answer, in PEM form, by identifier. Malformed entries are left out."""
    listed = value.get("public_keys")
    keys: dict[str, str] = {}
    for entry in listed[:MAX_KEYS] if isinstance(listed, list) else ():
        if isinstance(entry, dict):
            name, pem = entry.get("key_identifier"), entry.get("key")
            if isinstance(name, str) and isinstance(pem, str):
                keys[name] = pem
    return keys


def verify(pem: str, signature: str, body: bytes) -> None:
    """Raise an error unless `signature` is a valid signature of the body.

    Args:
        pem: The public key in PEM form.
        signature: The signature in DER form, encoded in base64.
        body: The request's unchanged body.

    Raises:
        Forged: The signature is not valid.
    """
    # Import these modules (3 MB) only when needed, because most web servers never receive an alert.
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        der = base64.b64decode(signature, validate=True)
        key = load_pem_public_key(pem.encode())
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
            raise Forged("the key is not an ECDSA P-256 key like GitHub's")
        key.verify(der, body, ec.ECDSA(hashes.SHA256()))
    except (binascii.Error, ValueError, UnsupportedAlgorithm, InvalidSignature) as err:
        raise Forged("the signature does not match the body") from err


def _in_background(work: Callable[[], None]) -> None:
    threading.Thread(target=work, name="public-keys", daemon=True).start()


@dataclass(frozen=True, slots=True)
class _Known:
    """GitHub's public keys. `is_current` is True if the last fetch succeeded."""

    keys: Mapping[str, str]
    kept_until: float = 0.0
    is_current: bool = False


class PublicKeys:
    """A cache of GitHub's public keys, which are fetched in the background. Threads can share it."""

    def __init__(
        self,
        github: GitHub,
        clock: Callable[[], float] = time.monotonic,
        start: Callable[[Callable[[], None]], None] = _in_background,
    ) -> None:
        self._github = github
        self._clock = clock
        self._start = start
        self._lock = threading.Lock()
        self._places = threading.Semaphore(MAX_WAITING)
        self._known = _Known({})
        self._asked_at = 0.0
        self._ended: threading.Event | None = None

    def check(self, key_id: str, signature: str, body: bytes) -> None:
        """Raise an error unless GitHub signed the body. If the key is unknown, wait until the keys are fetched.

        Raises:
            Forged: GitHub did not sign the body.
            KeysUnavailable: The keys cannot be fetched in time.
        """
        asked = self.prepare(key_id, signature)
        if asked is not None:
            self._wait_for(asked)
        self.check_prepared(key_id, signature, body)

    def prepare(self, key_id: str, signature: str) -> threading.Event | None:
        """Check the signature headers of a request before its body is read, without waiting.

        Returns:
            None if the key is known. Otherwise an event that is set after the keys are fetched; then call `check_key`.

        Raises:
            Forged: The request carries no signature.
        """
        if not key_id or not signature or len(key_id) > MAX_ID_LENGTH or len(signature) > MAX_SIGNATURE_LENGTH:
            raise Forged("the request carries no signature")
        known = self._known
        if key_id not in known.keys:
            return self._ask()
        if self._clock() >= known.kept_until:
            self._ask()
        return None

    def check_key(self, key_id: str) -> str:
        """Return GitHub's public key with this identifier, in PEM form.

        Raises:
            Forged: GitHub has no such key.
            KeysUnavailable: GitHub's current keys are not known.
        """
        known = self._known
        if key_id in known.keys:
            return known.keys[key_id]
        if known.is_current:
            raise Forged("the key is not one of GitHub's")
        # The list of keys is outdated, so the unknown key may be a new one.
        raise KeysUnavailable("GitHub's keys cannot be fetched")

    def check_prepared(self, key_id: str, signature: str, body: bytes) -> None:
        """Raise an error unless GitHub signed the body. Use only the keys that are already fetched.

        Raises:
            Forged: GitHub did not sign the body.
            KeysUnavailable: GitHub's current keys are not known.
        """
        verify(self.check_key(key_id), signature, body)

    def _ask(self) -> threading.Event:
        """Fetch the keys in the background, and return an event that is set when they have arrived."""
        with self._lock:
            now = self._clock()
            last = self._ended
            if last is not None and (not last.is_set() or now - self._asked_at < REFETCH_SECONDS):
                return last
            self._asked_at, ended = now, threading.Event()
            self._ended = ended
            # Mark the old list of keys as outdated until the new list is fetched.
            self._known = replace(self._known, is_current=False)
        try:
            self._start(lambda: self._fetch(now, ended))
        except RuntimeError:
            # Set the event even if no thread could be started. Otherwise later requests would wait for ever.
            ended.set()
            _log.exception("no thread to fetch the keys of secret scanning: a later alert will try again")
        return ended

    def _wait_for(self, ended: threading.Event) -> None:
        """Wait until the keys have been fetched, at most WAIT_SECONDS."""
        if ended.is_set():
            return
        if not self._places.acquire(blocking=False):
            raise KeysUnavailable("GitHub's keys are being fetched, and other alerts wait for them already")
        try:
            ended.wait(WAIT_SECONDS)
        finally:
            self._places.release()

    def _fetch(self, now: float, ended: threading.Event) -> None:
        try:
            _, value = get_json(self._github, f"{self._github.api_url}/{KEYS_PATH}", expected=dict)
            if keys := parse_keys(value):
                self._known = _Known(keys, now + KEPT_SECONDS, is_current=True)
            else:
                _log.warning("GitHub lists no keys of secret scanning: alerts with unknown keys are not accepted")
        except GitHubError as err:
            _log.warning("the keys of secret scanning cannot be fetched: %s", err)
        finally:
            ended.set()
