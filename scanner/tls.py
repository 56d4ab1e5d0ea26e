"""The TLS settings of all HTTP clients of a process.

The clients share one TLS context, because it takes megabytes of memory. Forked processes share the context of their
parent.
"""

from __future__ import annotations

import ssl
from functools import cache

import httpx


@cache
def trusted() -> ssl.SSLContext:
    """Return a TLS context that trusts the public certificate authorities.

    If SSL_CERT_FILE names a file, trust the authorities in this file instead.
    """
    return httpx.create_ssl_context()
