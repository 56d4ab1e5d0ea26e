"""The sign-in page (password or identity provider), and sign-out."""

from __future__ import annotations

from collections import OrderedDict
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from scanner.compromise.networks import rate_keys
from workers.web import refusals
from workers.web.console import rendering, sessions, users
from workers.web.console.protections import comes_from_here, is_encrypted, is_exposed, local_path
from workers.web.console.serving import MAX_FORM_BYTES, SIGN_IN, Console, View, cookie_name, form_of
from workers.web.console.users import BadUser, SignedIn
from workers.web.front import RATE_RETRY_SECONDS
from workers.web.pools import Pool
from workers.web.rates import Rate, RateLimiter
from workers.web.requests import RequestRefused, client_of, network_of

if TYPE_CHECKING:
    from workers.web.console.oidc_sign_in import OidcSignIn

ATTEMPTS = (Rate(10, 5), Rate(60, 30))
"""Rate limits for sign-in attempts from one network, and from all networks."""
ATTEMPTS_ON_A_NAME = (Rate(20, 10), Rate(600, 600))
"""Rate limits for sign-in attempts with one name, and with all names."""
MAX_KNOWN_NETWORKS = 1_000
"""The maximum number of remembered sign-ins, each as the name and the network of a user.

A user's later attempts from this network do not count against ATTEMPTS_ON_A_NAME: strangers cannot lock out a user.
"""
WRONG = "The name or the password is wrong."


class SignIn:
    """The sign-in page and its form."""

    # Passwords are hashed in a separate thread, so that many attempts do not slow down other pages.

    def __init__(self, console: Console) -> None:
        self._console = console
        self._hashing = Pool(threads=1, queue=16)
        self._networks = RateLimiter(*ATTEMPTS)
        self._names = RateLimiter(*ATTEMPTS_ON_A_NAME)
        self._known: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._oidc: OidcSignIn | None = None
        if console.context.settings.oidc_issuer is not None:
            # Import this only if it is needed, because its libraries take ten megabytes.
            from workers.web.console.oidc_sign_in import OidcSignIn

            self._oidc = OidcSignIn(console, self._networks, partial(begin_session, console), self._page)

    def routes(self) -> list[Route]:
        """Return the routes for sign-in and sign-out."""
        console = self._console
        return [
            *(self._oidc.routes() if self._oidc else []),
            Route(SIGN_IN, console.protected(self._show), methods=["GET"]),
            Route(SIGN_IN, console.protected(self._take), methods=["POST"]),
            Route("/console/sign-out", console.action(sign_out, for_viewers=True), methods=["POST"]),
        ]

    async def _show(self, request: Request) -> Response:
        return await self._console.intake.run(self._page, request, local_path(request.query_params.get("next", "")))

    async def _take(self, request: Request) -> Response:
        if not comes_from_here(request):
            raise RequestRefused(403, "this form was not sent by a page of the console: open the page and try again")
        if is_exposed(request):
            raise RequestRefused(403, "a password must not be sent unencrypted: use HTTPS, with a proxy in front")
        if not self._networks.admit(rate_keys(client_of(request))):
            raise RequestRefused(429, "too many attempts: wait a minute", retry_after=RATE_RETRY_SECONDS)
        async with self._console.intake.body(request, MAX_FORM_BYTES) as body:
            form = form_of(body)
        back = local_path(form.get("next", ""))
        try:
            name = users.folded_name(form.get("name", "")[:100])
        except BadUser:
            return await self._console.intake.run(self._page, request, back, WRONG, 401)
        if (name, network_of(request)) not in self._known and not self._names.admit([name]):
            raise RequestRefused(429, "too many attempts for this name: wait a minute", retry_after=RATE_RETRY_SECONDS)
        return await self._hashing.run(self._check, request, name, form.get("password", ""), back)

    def _check(self, request: Request, name: str, password: str, back: str) -> Response:
        context = self._console.context
        with context.database.read() as session:
            known = users.credential_of(session, context.settings, name)
        person = users.check(known, name, password)
        if person is None:
            refusals.of_this_process.add("sign_in_refused", network_of(request), "wrong name or password")
            return self._page(request, back, WRONG, 401)
        # Only the single thread of the hashing pool changes `_known`, so no lock is needed.
        self._known[name, network_of(request)] = None
        while len(self._known) > MAX_KNOWN_NETWORKS:
            self._known.popitem(last=False)
        return begin_session(self._console, request, person, back)

    def _page(self, request: Request, back: str, error: str = "", status: int = 200) -> Response:
        context = self._console.context
        with context.database.read() as session:
            has_users = users.anybody(session, context.settings)
            has_passwords = context.settings.console_password_hash is not None or bool(users.listed(session))
        values = {
            "next": back,
            "error": error,
            "has_users": has_users,
            "is_exposed": is_exposed(request),
            "oidc": f"{self._oidc.begin}?{urlencode({'next': back})}" if self._oidc else "",
            "provider": urlsplit(context.settings.oidc_issuer or "").hostname,
            "has_passwords": has_passwords,
        }
        return HTMLResponse(rendering.render("sign_in.html", values), status)


def begin_session(console: Console, request: Request, person: SignedIn, back: str, subject: str = "") -> Response:
    """Begin a session and return a redirect that sets the session cookie.

    Args:
        request: The request that completes the sign-in.
        back: The path of the page to show next.
        subject: The identity provider's id for the person. Empty after sign-in with a password.
    """
    settings = console.context.settings
    with console.context.database.write() as session:
        key = sessions.signing_key(session)
        secret = sessions.begin(session, person, settings, network_of(request), subject)
    console.remember_key(key)
    response = RedirectResponse(back, 303)
    response.set_cookie(
        cookie_name(request),
        sessions.signed(secret, key),
        max_age=settings.console_session_hours * 3600,
        path="/",
        secure=is_encrypted(request),
        httponly=True,
        samesite="lax",
    )
    return response


def sign_out(view: View) -> Response:
    """End the session and delete its cookie."""
    with view.context.database.write() as session:
        sessions.end(session, view.person)
    response = RedirectResponse(SIGN_IN, 303)
    response.delete_cookie(cookie_name(view.request), path="/", secure=is_encrypted(view.request), httponly=True)
    return response
