"""Invented tokens, fresh each time, so that none is ever written into a file of the project."""

from __future__ import annotations

import secrets
import string

_ALPHABET = string.ascii_letters + string.digits


def random_token() -> str:
    """A string of the right form that has never been a token."""
    return "r8_" + "".join(secrets.choice(_ALPHABET) for _ in range(37))
