"""Invented tokens, fresh each time, so that none is ever written into a file of the project."""

from __future__ import annotations

import secrets

from scanner.detection.patterns.token_formats import active_formats


def random_token() -> str:
    """Return a random string in the first token format. It was never a real token."""
    return active_formats()[0].invented(secrets.choice)
