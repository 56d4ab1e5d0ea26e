"""Digests of tokens, which replace the raw tokens."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable

Digester = Callable[[bytes], str]
"""A function from the bytes of a token to 64 lower-case hex digits."""


def masked(hint: str, digest: str) -> str:
    """Return the text to show in place of a token: its hint, or the beginning of its digest if the hint is empty."""
    return hint or f"digest {digest[:8]}…"


def sha256_digest(token: bytes) -> str:
    """Return the SHA-256 of the token's ASCII bytes, in lower-case hex."""
    return hashlib.sha256(token).hexdigest()


def hmac_sha256_digester(key: bytes) -> Digester:
    """Return a function that computes the HMAC-SHA-256 of a token under `key`."""
    if not key:
        raise ValueError("the digest key is empty")
    return lambda token: hmac.new(key, token, hashlib.sha256).hexdigest()
