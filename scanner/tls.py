"""The TLS settings that all HTTP clients of a process share."""

from __future__ import annotations

import ssl
from functools import cache

import httpx


@cache
def trusted() -> ssl.SSLContext:
    """Return a TLS context that trusts the public certificate authorities, or those in the file SSL_CERT_FILE."""
    return httpx.create_ssl_context()
