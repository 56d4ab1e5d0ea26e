"""Sign-in with an identity provider: two routes, one to the provider and one back."""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from scanner.compromise.networks import rate_keys
from workers.web import refusals
from workers.web.console.oidc import CALLBACK, Flow, OidcError, Provider, printable
from workers.web.console.protections import is_encrypted, is_exposed, local_path
from workers.web.console.serving import Console, cookie_name
from workers.web.console.users import SignedIn
from workers.web.front import RATE_RETRY_SECONDS
from workers.web.pools import Pool
from workers.web.rates import RateLimiter
from workers.web.requests import RequestRefused, client_of

BEGIN = "/console/sign-in/oidc"
FLOW_SECONDS = 600
MAX_COOKIE = 4000
MAX_CODE = 4096
STARTED_ELSEWHERE = "this sign-in was begun in another browser, or more than ten minutes ago: begin again"

BeginSession = Callable[[Request, SignedIn, str, str], Response]
ErrorPage = Callable[[Request, str, str, int], Response]


class OidcSignIn:
    """The two routes for sign-in with an identity provider."""

    # A separate thread pool ensures that a slow provider does not delay other requests.

    begin = BEGIN

    def __init__(
        self, console: Console, networks: RateLimiter, begin_session: BeginSession, error_page: ErrorPage
    ) -> None:
        self._console = console
        self._provider = Provider(console.context.settings)
        self._talking = Pool(threads=4, queue=16)
        self._networks = networks
        self._begin_session = begin_session
        self._error_page = error_page

    def routes(self) -> list[Route]:
        """Return the two routes. They require no session."""
        return [
            Route(BEGIN, self._console.protected(self._begin), methods=["GET"]),
            Route(CALLBACK, self._console.protected(self._finish), methods=["GET"]),
        ]

    async def _begin(self, request: Request) -> Response:
        self._require_rate(request)
        back = local_path(request.query_params.get("next", ""))
        return await self._talking.run(self._to_provider, request, back)

    async def _finish(self, request: Request) -> Response:
        self._require_rate(request)
        return await self._talking.run(self._from_provider, request)

    def _require_rate(self, request: Request) -> None:
        if is_exposed(request):
            raise RequestRefused(403, "a session must not be sent unencrypted: use HTTPS, with a proxy in front")
        if not self._networks.admit(rate_keys(client_of(request))):
            raise RequestRefused(429, "too many attempts: wait a minute", retry_after=RATE_RETRY_SECONDS)

    def _to_provider(self, request: Request, back: str) -> Response:
        flow = Flow.begin()
        try:
            address = self._provider.address(flow)
        except OidcError as err:
            return self._refused(request, back, err, 503)
        response = RedirectResponse(address, 303)
        value = f"{flow.secret}.{urlsafe_b64encode(back.encode()).decode()}"
        response.set_cookie(
            flow_cookie(request),
            value,
            max_age=FLOW_SECONDS,
            path="/",
            secure=is_encrypted(request),
            httponly=True,
            samesite="lax",
        )
        return response

    def _from_provider(self, request: Request) -> Response:
        stored = stored_flow(request.cookies.get(flow_cookie(request), ""))
        finished = partial(self._finished, request)
        try:
            code = self._code(request, stored.flow)
            assert stored.flow is not None  # noqa: S101 - `_code` raises OidcError if it is None
            identity = self._provider.identity(stored.flow, code)
        except OidcError as err:
            return finished(self._refused(request, stored.back, err, 401))
        return finished(self._begin_session(request, identity.person, stored.back, identity.subject))

    def _code(self, request: Request, flow: Flow | None) -> str:
        """Return the code that the provider put into the URL. Raise OidcError if it is missing."""
        given = request.query_params
        if flow is None or not hmac.compare_digest(given.get("state", "").encode(), flow.state.encode()):
            raise OidcError(STARTED_ELSEWHERE)
        if error := given.get("error"):
            raise OidcError(f"the identity provider refused: {printable(error)}")
        # The issuer in the answer must be the configured provider: https://www.rfc-editor.org/rfc/rfc9207
        if given.get("iss", "").rstrip("/") not in ("", self._console.context.settings.oidc_issuer):
            raise OidcError("the answer comes from another identity provider")
        if not 0 < len(given.get("code", "")) <= MAX_CODE:
            raise OidcError("the identity provider sent no code")
        return str(given["code"])

    def _refused(self, request: Request, back: str, err: OidcError, status: int) -> Response:
        refusals.of_this_process.add("sign_in_refused", rate_keys(client_of(request))[-1], str(err))
        return self._error_page(request, back, f"{str(err)[:1].upper()}{str(err)[1:]}.", status)

    @staticmethod
    def _finished(request: Request, response: Response) -> Response:
        """Delete the sign-in cookie and return the response."""
        response.delete_cookie(flow_cookie(request), path="/", secure=is_encrypted(request), httponly=True)
        return response


def flow_cookie(request: Request) -> str:
    """Return the name of the cookie that stores an unfinished sign-in."""
    return f"{cookie_name(request)}-oidc"


@dataclass(frozen=True, slots=True)
class StoredFlow:
    """The content of the cookie that stores an unfinished sign-in.

    Attributes:
        flow: The sign-in, or None if the cookie is missing or malformed.
        back: The path of the page to show after the sign-in.
    """

    flow: Flow | None
    back: str


def stored_flow(cookie: str) -> StoredFlow:
    """Return the content of the sign-in cookie. `flow` is None if the cookie is empty or malformed."""
    secret, _, encoded = cookie.partition(".")
    if len(cookie) > MAX_COOKIE or len(secret) < 40:
        return StoredFlow(None, local_path(""))
    try:
        return StoredFlow(Flow(secret), local_path(urlsafe_b64decode(encoded).decode()))
    except ValueError:
        return StoredFlow(None, local_path(""))
