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
MOST_KEYS = 100
LONGEST_ID = 128
LONGEST_SIGNATURE = 1024

_log = logging.getLogger(__name__)


class Forged(Exception):
    """Nobody who has GitHub's key signed this body; the text is a line without anything that was sent."""


class KeysUnavailable(Exception):
    """GitHub's keys cannot be had just now, so nothing can be said of the signature."""


def parse_keys(value: Mapping[str, object]) -> dict[str, str]:
    """Keys in PEM form by their identifiers, out of GitHub's answer; what cannot be used is left out."""
    listed = value.get("public_keys")
    keys: dict[str, str] = {}
    for entry in listed[:MOST_KEYS] if isinstance(listed, list) else ():
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


class PublicKeys:
    """GitHub's keys, kept, and asked for again when they are old or one is unknown. Safe to share between threads."""

    def __init__(self, github: GitHub, clock: Callable[[], float] = time.monotonic) -> None:
        self._github = github
        self._clock = clock
        self._lock = threading.Lock()
        self._keys: dict[str, str] = {}
        self._kept_until = 0.0
        self._asked_at: float | None = None

    def check(self, key_id: str, signature: str, body: bytes) -> None:
        """Return if GitHub signed the body. Forged, or KeysUnavailable when that cannot be known."""
        if not key_id or not signature or len(key_id) > LONGEST_ID or len(signature) > LONGEST_SIGNATURE:
            raise Forged("the request carries no signature")
        verify(self._key(key_id), signature, body)

    def _key(self, key_id: str) -> str:
        with self._lock:  # others wait for the one who asks
            now = self._clock()
            if key_id in self._keys and now < self._kept_until:
                return self._keys[key_id]
            if self._asked_at is None or now - self._asked_at >= REFETCH_SECONDS:
                self._asked_at = now
                self._fetch(now)
            if key_id in self._keys:
                return self._keys[key_id]
            if not self._keys:
                raise KeysUnavailable("GitHub's keys cannot be had")
            raise Forged("the key is none of GitHub's")

    def _fetch(self, now: float) -> None:
        try:
            _, value = get_json(self._github, f"{self._github.api_url}/{KEYS_PATH}", expected=dict)
        except GitHubError as err:
            _log.warning("the keys of secret scanning cannot be had: %s", err)
            return
        keys = parse_keys(value)
        if keys:
            self._keys, self._kept_until = keys, now + KEPT_SECONDS
        else:
            _log.warning("GitHub names no keys of secret scanning")
