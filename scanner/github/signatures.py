"""Whether GitHub signed a secret scanning alert: ECDSA P-256 with SHA-256 over the body as it came, byte by byte.

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

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from scanner.github.client import GitHub, get_json
from scanner.github.errors import GitHubError

KEYS_PATH = "meta/public_keys/secret_scanning"
KEPT_SECONDS = 3600.0
"""Keys are asked for again after an hour; until that succeeds the old ones count."""
REFETCH_SECONDS = 30.0
"""An unknown key has them asked for again, but not more often: anybody can send one."""
WAIT_SECONDS = 10.0
"""For keys, with an alert in hand: GitHub gives an alert up after 30 seconds."""
MAX_WAITING = 2
"""Each waits in a thread, and anybody can send a key that is unknown."""
MAX_KEYS = 100
MAX_ID_LENGTH = 128
MAX_SIGNATURE_LENGTH = 1024

_log = logging.getLogger(__name__)


class Forged(Exception):
    """Nobody who has GitHub's key signed this body; the text is a line without anything that was sent."""


class KeysUnavailable(Exception):
    """GitHub's keys cannot be had just now, so nothing can be said of the signature."""


def parse_keys(value: Mapping[str, object]) -> dict[str, str]:
    """Keys in PEM form by their identifiers, out of GitHub's answer; what cannot be used is left out."""
    listed = value.get("public_keys")
    keys: dict[str, str] = {}
    for entry in listed[:MAX_KEYS] if isinstance(listed, list) else ():
        if isinstance(entry, dict):
            name, pem = entry.get("key_identifier"), entry.get("key")
            if isinstance(name, str) and isinstance(pem, str):
                keys[name] = pem
    return keys


def verify(pem: str, signature: str, body: bytes) -> None:
    """Return if the signature (base64 of DER) of this body was made with the key. Forged if not."""
    try:
        der = base64.b64decode(signature, validate=True)
        key = load_pem_public_key(pem.encode())
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
            raise Forged("the key is of another kind than GitHub's")
        key.verify(der, body, ec.ECDSA(hashes.SHA256()))
    except (binascii.Error, ValueError, UnsupportedAlgorithm, InvalidSignature) as err:
        raise Forged("the signature does not fit the body") from err


def _in_background(work: Callable[[], None]) -> None:
    threading.Thread(target=work, name="public-keys", daemon=True).start()


@dataclass(frozen=True, slots=True)
class _Known:
    """Keys by their identifiers. `is_current`: GitHub gave them when it was asked last."""

    keys: Mapping[str, str]
    kept_until: float = 0.0
    is_current: bool = False


class PublicKeys:
    """GitHub's keys, kept, and asked for again when they are old or one is unknown. Safe to share between threads.

    They are asked for aside (`start` runs it), so that no alert with a known key waits for that, however slow it is.
    """

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
        """Return if GitHub signed the body. Forged, or KeysUnavailable when that cannot be known."""
        asked = self.prepare(key_id, signature)
        if asked is not None:
            self._wait_for(asked)
        self.check_prepared(key_id, signature, body)

    def prepare(self, key_id: str, signature: str) -> threading.Event | None:
        """Look at what a request says of its signature, before its body is read. Never waits.

        Returns:
            None if the key is known. Otherwise an event that is set when GitHub has been asked for its keys;
            `check_key` then says whether this key is among them.

        Raises:
            Forged: the request carries no signature.
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
        """Return the key (PEM). Forged if it is none of GitHub's, KeysUnavailable when that cannot be known."""
        known = self._known
        if key_id in known.keys:
            return known.keys[key_id]
        if known.is_current:
            raise Forged("the key is none of GitHub's")
        # It may be a new one: of that only GitHub knows.
        raise KeysUnavailable("GitHub's keys cannot be had")

    def check_prepared(self, key_id: str, signature: str, body: bytes) -> None:
        """Return if GitHub signed the body, as far as the keys that are known now tell. Raises as `check` does."""
        verify(self.check_key(key_id), signature, body)

    def _ask(self) -> threading.Event:
        """Have the keys asked for, unless they were just now; the event is set when that has ended."""
        with self._lock:
            now = self._clock()
            last = self._ended
            if last is not None and (not last.is_set() or now - self._asked_at < REFETCH_SECONDS):
                return last
            self._asked_at, ended = now, threading.Event()
            self._ended = ended
            # Until it has ended, nobody can say that an unknown key is none of GitHub's.
            self._known = replace(self._known, is_current=False)
        try:
            self._start(lambda: self._fetch(now, ended))
        except RuntimeError:
            # Out of threads: nobody will end it, and while it has not ended nobody asks again.
            ended.set()
            _log.exception("the keys of secret scanning cannot be asked for")
        return ended

    def _wait_for(self, ended: threading.Event) -> None:
        """Wait until the keys have been asked for, not for too long. KeysUnavailable where enough others wait."""
        if ended.is_set():
            return
        if not self._places.acquire(blocking=False):
            raise KeysUnavailable("GitHub's keys are being asked for, and others wait for them already")
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
                _log.warning("GitHub names no keys of secret scanning")
        except GitHubError as err:
            _log.warning("the keys of secret scanning cannot be had: %s", err)
        finally:
            ended.set()
