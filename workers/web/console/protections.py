"""Protects the console against other sites, by checks of forms and by security headers."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from scanner.compromise.networks import parse_address
from workers.web.requests import client_of

CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; font-src 'none'; "
    "frame-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
"""The Content-Security-Policy header of the console's pages. It allows nothing from other sites and no inline scripts.
"""
MAIL_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'self'; base-uri 'none'; sandbox"
)
"""The Content-Security-Policy header of a mail in a frame. It allows the mail's styles but no scripts."""
HEADERS = {
    "Content-Security-Policy": CONTENT_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # With "no-referrer" instead, browsers would send `Origin: null` with the console's own forms.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Cache-Control": "no-store",
}
MAIL_HEADERS = {"Content-Security-Policy": MAIL_POLICY, "X-Frame-Options": "SAMEORIGIN"}
HSTS = "max-age=31536000"


def comes_from_here(request: Request) -> bool:
    """Return whether a page of this console sent the request, according to `Sec-Fetch-Site` or `Origin`."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin, host = request.headers.get("origin"), request.headers.get("host")
    return bool(origin and host) and urlsplit(origin or "").netloc.lower() == (host or "").lower()


def is_encrypted(request: Request) -> bool:
    """Return whether the client uses HTTPS, according to the connection or a trusted proxy."""
    return bool(request.url.scheme == "https")


def is_exposed(request: Request) -> bool:
    """Return whether the request came over plain HTTP from a public address, so that passwords are refused."""
    address = parse_address(client_of(request))
    return not is_encrypted(request) and isinstance(address, _ADDRESSES) and address.is_global


def protect(request: Request, response: Response) -> Response:
    """Add missing security headers to the response and return it."""
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    if is_encrypted(request):
        response.headers.setdefault("Strict-Transport-Security", HSTS)
    return response


def local_path(given: str) -> str:
    """Return `given` if it is a path in the console, otherwise the path of the first page."""
    is_plain = given.isascii() and given.isprintable() and not {"\\", "\t"} & set(given)
    if is_plain and given.startswith("/console/") and len(given) <= 2000:
        parts = urlsplit(given)
        if not parts.scheme and not parts.netloc and ".." not in parts.path and "//" not in parts.path:
            return given
    return "/console/"


_ADDRESSES = (ipaddress.IPv4Address, ipaddress.IPv6Address)
