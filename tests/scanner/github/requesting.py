"""Addresses and a credential for tests of the GitHub client."""

from __future__ import annotations

API, WEB = "https://api.github.com", "https://github.com"
SECRET = "the-secret-credential"
