"""Creates random tokens, so that no file of the project contains one."""

from __future__ import annotations

import secrets

from scanner.detection.patterns.token_formats import active_formats


def random_token() -> str:
    """Return a random token in the first active token format."""
    return active_formats()[0].invented(secrets.choice)
