"""Handles the console's requests: checks rate limit, form, session and role, then calls the page's function."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl, urlencode

from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from scanner.compromise import reports
from scanner.compromise.reports import BadReport
from scanner.detection import redact
from scanner.records.database import is_unavailable
from scanner.records.models import db_now
from scanner.response.operator_actions import NotPossible
from scanner.tokens.protocol import StoreUnavailable
from workers import outage
from workers.context import Context
from workers.health.overview import overview
from workers.health.problems import DECISIONS
from workers.health.rows import Overview
from workers.web.bodies import BodyBudget
from workers.web.console import rendering, sessions
from workers.web.console.cached import Cached, Refreshed
from workers.web.console.protections import comes_from_here, is_encrypted, is_exposed, protect
from workers.web.console.queries.decisions import Waiting, waiting
from workers.web.console.queries.figures import Figures, load_figures
from workers.web.console.sessions import Person
from workers.web.front import Intake
from workers.web.pools import Pool
from workers.web.rates import Rate, RateLimiter
from workers.web.requests import Endpoint, RequestRefused

MAX_FORM_BYTES = 64 * 1024
MAX_FIELDS = 40
REQUESTS = (Rate(300, 1200), Rate(2000, 6000))
"""Rate limits for requests from one network, and from all. An open page sends about 20 requests a minute."""
OVERVIEW_SECONDS = 3.0
FIGURES_SECONDS = 60.0
STATEMENT_SECONDS = 5
"""The time limit of a query on PostgreSQL, so that the console cannot slow down the disabling of tokens."""
READING = (
    f"SET LOCAL statement_timeout = '{STATEMENT_SECONDS}s'; "
    # Plan each query with its actual values. A generic plan does not consider how many incidents match.
    "SET LOCAL plan_cache_mode = force_custom_plan; "
    # By default, PostgreSQL assumes that random reads are slow, and then does not use the indexes.
    "SET LOCAL random_page_cost = 1.1; "
    # Compiling these short queries takes longer than running them.
    "SET LOCAL jit = off"
)
SIGN_IN = "/console/sign-in"
_CANCELED = "57014"
"""PostgreSQL's error code for a cancelled query: https://www.postgresql.org/docs/current/errcodes-appendix.html"""


class BadRequest(Exception):
    """Raised for a malformed request. The error page shows the message."""


class NotThere(Exception):
    """Raised if the requested page, incident, job or mail does not exist."""


@dataclass(frozen=True, slots=True)
class ChainCheck:
    """The result of verifying the audit log's hash chain.

    Attributes:
        error: Where the chain is broken. Empty if it is valid.
        entries: The number of verified entries.
    """

    at: datetime
    entries: int
    error: str
    last_id: int = 0
    last_hash: str = ""


@dataclass(frozen=True, slots=True)
class View:
    """A request of a signed-in person. `form` has the fields of a submitted form."""

    console: Console
    request: Request
    person: Person
    form: dict[str, str] = field(default_factory=dict)

    @property
    def context(self) -> Context:
        """Return the objects that this process shares, such as the database."""
        return self.console.context

    @property
    def query(self) -> dict[str, str]:
        """Return the URL's query parameters. If one is repeated, its last value counts."""
        return dict(self.request.query_params)

    def path_id(self) -> uuid.UUID:
        """Return the UUID in the URL's path.

        Raises:
            NotThere: The path contains no valid UUID.
        """
        try:
            return uuid.UUID(self.request.path_params["id"])
        except ValueError:
            raise NotThere from None

    def path_number(self) -> int:
        """Return the numeric id in the URL's path.

        Raises:
            NotThere: The path contains no valid number.
        """
        given = self.request.path_params["id"]
        if not (given.isascii() and given.isdecimal() and len(given) <= 18):
            raise NotThere
        return int(given)

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Open a reading transaction. On PostgreSQL, its statements have a time limit."""
        with self.context.database.read() as session:
            if self.context.database.is_postgresql:
                session.connection().exec_driver_sql(READING)
            yield session

    def page(self, template: str, status: int = 200, **values: Any) -> Response:
        """Render the template as a response. The template also gets the values that every page needs."""
        return HTMLResponse(rendering.render(template, {**self._common(), **values}), status)

    def go(self, path: str, **query: Any) -> Response:
        """Redirect the browser to another page after an action. Cached values are refreshed."""
        self.console.has_changed()
        return RedirectResponse(f"{path}?{urlencode(query)}" if query else path, 303)

    def _common(self) -> dict[str, Any]:
        found = self.console.overview.get()
        return {
            "person": self.person,
            "path": self.request.url.path,
            "now": self.console.now(),
            "problems": [problem for problem in found.problems if problem.kind not in DECISIONS],
            "waiting": self.console.waiting.get(),
            "said": self.query.get("said", "") if self.query.get("said", "").isalnum() else "",
            "enforce": self.context.settings.enforce,
            "is_own_store": self.context.settings.token_store_url is None,
        }


Function = Callable[[View], Response]


class Console:
    """The objects that all pages share in this process, such as thread pools and cached values."""

    def __init__(self, context: Context, budget: BodyBudget) -> None:
        self.context = context
        self.intake = Intake(budget, Pool(threads=4, queue=32), RateLimiter(*REQUESTS))
        self.bulk = Intake(budget, Pool(threads=1, queue=2))
        """Accepts requests for long actions, which must not block pages."""
        self.overview: Refreshed[Overview] = Refreshed(self._overview, OVERVIEW_SECONDS, self._background)
        self.waiting: Cached[Waiting] = Cached(self._waiting, OVERVIEW_SECONDS)
        self.figures: Refreshed[Figures] = Refreshed(self._figures, FIGURES_SECONDS, self._background)
        self.chain_check: ChainCheck | None = None
        self._key: bytes | None = None

    def now(self) -> datetime:
        """Return the database's time when the cached values were read, which may be slightly in the past."""
        return max(self.overview.get().at, self.waiting.get().at)

    def has_changed(self) -> None:
        """Refresh the cached values after an action has changed the database."""
        self.overview.forget()
        self.waiting.forget()

    def page(self, function: Function) -> Endpoint:
        """Return an endpoint that shows `function`'s page to every signed-in person."""

        async def answer(request: Request) -> Response:
            secret = await self._secret(request)
            return await self.intake.run(self._serve, request, secret, function, {})

        return self.protected(answer)

    def action(self, function: Function, *, for_viewers: bool = False, is_long: bool = False) -> Endpoint:
        """Return an endpoint that receives a form and performs an action.

        Args:
            function: Performs the action and returns the response.
            for_viewers: Allow viewers to send the form. By default, only operators may.
            is_long: The action may take many seconds.
        """

        async def answer(request: Request) -> Response:
            if not comes_from_here(request):
                raise RequestRefused(
                    403, "this form was not sent by a page of the console: open the page and try again"
                )
            secret = await self._secret(request)
            intake = self.bulk if is_long else self.intake
            async with intake.body(request, MAX_FORM_BYTES) as body:
                return await intake.run(self._serve, request, secret, function, form_of(body), not for_viewers)

        return self.protected(answer)

    def protected(self, endpoint: Endpoint) -> Endpoint:
        """Return the endpoint with a rate limit, error pages and security headers, but without checking the session."""

        async def answer(request: Request) -> Response:
            try:
                self.intake.require_rate(request)
                response = await endpoint(request)
            except RequestRefused as err:
                response = error_page(err.status, err.reason, err.retry_after)
            except ClientDisconnect:
                response = error_page(400, "the form did not arrive completely")
            except Exception as err:
                if not is_unavailable(err):
                    raise
                response = database_error(err)
            return protect(request, response)

        return answer

    async def key(self) -> bytes | None:
        """Return the key that signs cookies. On a new database, create it."""
        if self._key is None:
            self._key = await self.intake.run(self._read_key)
        return self._key

    def remember_key(self, key: bytes) -> None:
        """Cache the key that signs cookies."""
        self._key = key

    async def _secret(self, request: Request) -> str:
        """Return the session's secret from the cookie, or "" if there is no valid cookie."""
        cookie = request.cookies.get(cookie_name(request), "")
        key = await self.key() if cookie else None
        return (sessions.secret_of(cookie, key) if key else None) or ""

    def _serve(
        self,
        request: Request,
        secret: str,
        function: Function,
        form: dict[str, str],
        is_for_operators: bool = False,
    ) -> Response:
        try:
            person = self._person(request, secret) if secret else None
            if person is None:
                return sign_in_first(request)
            if is_for_operators and not person.is_operator:
                return error_page(403, "a viewer cannot change anything: ask an operator")
            return function(View(self, request, person, form))
        except NotThere:
            return error_page(404, "there is nothing here: it may have been removed because of its age")
        except BadRequest as err:
            return error_page(400, str(err))
        except NotPossible as err:
            return error_page(409, str(err))
        except StoreUnavailable:
            return error_page(503, "the token store does not answer: try again later", 30)

    def _person(self, request: Request, secret: str) -> Person | None:
        with self.context.database.read() as session:
            found = sessions.find(session, secret, self.context.settings)
        if found is None:
            return None
        # Requests that refresh an open page (sent by the library htmx) must not prolong the session.
        if found.is_stale and "hx-request" not in request.headers:
            with self.context.database.write() as session:
                sessions.touch(session, found.person)
        return found.person

    def _read_key(self) -> bytes:
        with self.context.database.write() as session:
            return sessions.signing_key(session)

    def _background(self) -> Executor:
        return self.context.background

    def _overview(self) -> Overview:
        return overview(self.context.database, self.context.settings, ask_broker=True)

    def _waiting(self) -> Waiting:
        with self.context.database.read() as session:
            return waiting(session)

    def _figures(self) -> Figures:
        with self.context.database.read() as session:
            return load_figures(session, session.execute(select(db_now())).scalar_one())


def form_of(body: bytes) -> dict[str, str]:
    """Return the fields of a form from a request's body.

    Raises:
        RequestRefused: The status is 400. The body is malformed or has more than MAX_FIELDS fields.
    """
    try:
        return dict(parse_qsl(body.decode("utf-8"), keep_blank_values=True, max_num_fields=MAX_FIELDS))
    except ValueError:
        raise RequestRefused(400, "the form cannot be read") from None


def cookie_name(request: Request) -> str:
    """Return the name of the session cookie."""
    # Browsers accept the prefix `__Host-` only over HTTPS and only from this host.
    return "__Host-r8scan" if is_encrypted(request) else "r8scan"


def sign_in_first(request: Request) -> Response:
    """Redirect the browser to the sign-in page. After a GET, the sign-in leads back to the requested page."""
    back = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    if "hx-request" in request.headers:
        return Response(status_code=401, headers={"HX-Redirect": SIGN_IN})
    target = f"{SIGN_IN}?{urlencode({'next': back})}" if request.method == "GET" else SIGN_IN
    return RedirectResponse(target, 303)


def without_token(view: View, term: str) -> str:
    """Return the search term without tokens. A term that is a token becomes its digest."""
    try:
        return reports.subject_of(term, view.context.settings.digester()).digest
    except BadReport:
        return redact(term)


def error_page(status: int, reason: str, retry_after: int | None = None) -> Response:
    """Return an error page, which needs no database and no session."""
    titles = {403: "Not allowed", 404: "Not found", 409: "Not possible now", 429: "Too many requests"}
    title = titles.get(status, "Try again later" if status >= 500 else "Not understood")
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    return HTMLResponse(rendering.render("error.html", {"title": title, "reason": reason}), status, headers)


def database_error(err: Exception) -> Response:
    """Return the error page for an unavailable or slow database."""
    if getattr(getattr(err, "orig", None), "sqlstate", None) == _CANCELED:
        return error_page(503, f"that took more than {STATEMENT_SECONDS} seconds and was given up: narrow the filter")
    outage.database.failed(err)
    return error_page(503, "the database does not answer: try again later", 30)


__all__ = ["BadRequest", "Console", "NotThere", "View", "error_page", "is_exposed"]
