"""Invented tokens. They are made at random when they are needed, so that no file of the project contains one."""

from __future__ import annotations

import secrets

from scanner.detection.patterns.token_formats import active_formats


def random_token() -> str:
    """Return a random string of the first active token format. It was never a real token."""
    return active_formats()[0].invented(secrets.choice)
