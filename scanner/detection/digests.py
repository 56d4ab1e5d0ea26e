"""How a raw token becomes a digest and a hint; after this nobody needs the token any more."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable

TOKEN_LENGTH = 40

Digester = Callable[[bytes], str]
"""From the 40 bytes of a token to 64 lower-case hex digits."""


def sha256_digest(token: bytes) -> str:
    """The SHA-256 of the token's ASCII bytes, in lower-case hex."""
    return hashlib.sha256(token).hexdigest()


def hmac_sha256_digester(key: bytes) -> Digester:
    """A digester for stores that hash with a pepper: HMAC-SHA-256 of the token's bytes under `key`."""
    if not key:
        raise ValueError("the digest key is empty")
    return lambda token: hmac.new(key, token, hashlib.sha256).hexdigest()


def hint_of(token: bytes) -> str:
    """`r8_Ab1…xyz9`: enough for the owner to recognise the token, too little to use or to guess it."""
    return f"{token[:6].decode('ascii')}…{token[-4:].decode('ascii')}"
