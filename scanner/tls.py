"""The TLS settings of all HTTP clients of a process. They share one TLS context, which takes megabytes of memory.

Forked processes share the context of their parent.
"""

from __future__ import annotations

import ssl
from functools import cache

import httpx


@cache
def trusted() -> ssl.SSLContext:
    """Return the TLS context that trusts the public authorities, or those in the file that SSL_CERT_FILE names."""
    return httpx.create_ssl_context()
