"""The TLS settings of all HTTP clients of a process: one TLS context, which loads the trusted authorities once.

If each client loaded the authorities, each would take megabytes of memory. Forked processes share the context of their
parent.
"""

from __future__ import annotations

import ssl
from functools import cache

import httpx


@cache
def trusted() -> ssl.SSLContext:
    """Return the TLS context that trusts the public authorities, or the authorities that SSL_CERT_FILE names."""
    return httpx.create_ssl_context()
