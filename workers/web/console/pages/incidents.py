"""The console's list of incidents, with filter, search, and actions on all listed incidents."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from sqlalchemy.orm import Session
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from scanner.records.database import is_conflict
from scanner.records.models import Incident
from scanner.records.states import Cause, Decision, IncidentState
from scanner.response import operator_actions
from scanner.response.operator_actions import NotPossible
from scanner.tokens.protocol import LookUp
from workers.wake import wake_outbox
from workers.web.console.queries import incidents
from workers.web.console.queries.incidents import BadFilter, Filter
from workers.web.console.serving import BadRequest, Console, View, without_token

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

PATH = "/console/incidents"
ACTIONS = tuple(one for one in Decision if one)
TITLES = {
    "close": "Close incidents",
    "reopen": "Open incidents again",
    "note": "Add a note to incidents",
    "resend": "Send mails again",
}
BULK_CHUNK = 100
"""The number of incidents that are changed in one transaction."""


@dataclass(frozen=True, slots=True)
class BulkOutcome:
    """The result of an action on all listed incidents.

    Attributes:
        done: The number of changed incidents.
        refused: The number of unchanged incidents, by reason.
    """

    done: int = 0
    refused: Counter[str] = field(default_factory=Counter)

    def __add__(self, other: BulkOutcome) -> BulkOutcome:
        return BulkOutcome(self.done + other.done, self.refused + other.refused)


def routes(console: Console) -> list[Route]:
    """Return the routes of the list, its search and its bulk actions."""
    return [
        Route(PATH, console.page(show), methods=["GET"]),
        Route(f"{PATH}/search", console.action(search, for_viewers=True), methods=["POST"]),
        Route(f"{PATH}/bulk", console.action(ask), methods=["POST"]),
        Route(f"{PATH}/bulk/confirmed", console.action(act_on_all, is_long=True), methods=["POST"]),
    ]


def show(view: View) -> Response:
    """Render the list of incidents that match the filter in the URL."""
    criteria, before = _filter(view.query), view.query.get("before", "")[:100]
    most_counted = incidents.most_counted(criteria)
    with view.reading() as session:
        try:
            page = incidents.page(session, criteria, before, counted=most_counted)
        except BadFilter as err:
            raise BadRequest(str(err)) from None
        return view.page(
            "incidents.html",
            criteria=criteria,
            values=criteria.to_query(),
            page=page,
            before=before,
            total=page.total,
            most_counted=most_counted,
            states=tuple(IncidentState),
            actions=ACTIONS,
            causes=(Cause.PUBLIC_REPOSITORY, Cause.COMPROMISE_SIGNS),
            mail_states=(*incidents.MAIL_STATES, incidents.NO_MAIL),
            sources=_sources(view, criteria),
        )


def search(view: View) -> Response:
    """Redirect to the list with the form's filter in the URL. A token in the form is replaced by its digest."""
    given = dict(view.form)
    given["q"] = without_token(view, given.get("q", ""))
    return RedirectResponse(f"{PATH}?{urlencode(_filter(given).to_query())}", 303)


def ask(view: View) -> Response:
    """Ask the operator to confirm an action on all listed incidents."""
    criteria, name = _filter(view.form), _act(view.form)
    with view.reading() as session:
        number = incidents.count(session, criteria, incidents.MAX_BULK)
    return view.page(
        "bulk.html",
        title=TITLES[name],
        criteria=criteria,
        act=name,
        count=min(number, incidents.MAX_BULK),
        is_cut=number > incidents.MAX_BULK,
        moment=view.console.now().isoformat(),
        outcome=None,
    )


def act_on_all(view: View) -> Response:
    """Run the confirmed action and render its result. Incidents detected after the question to the operator are not
    changed.
    """
    criteria, name = _filter(view.form), _act(view.form)
    try:
        until = datetime.fromisoformat(view.form.get("moment", ""))
    except ValueError:
        raise BadRequest("the time of the confirmation is missing: begin again with the list") from None
    if until.tzinfo is None:
        raise BadRequest("the time of the confirmation has no time zone: begin again with the list")
    reason = operator_actions.cleaned(view.form.get("reason", ""))
    with view.reading() as session:
        ids = incidents.ids(session, criteria, until)
    outcome = BulkOutcome()
    for chunk in incidents.chunks(ids, BULK_CHUNK):
        outcome += _act_on(view, name, chunk, reason)
    if name == "resend" and outcome.done:
        wake_outbox()
    view.console.has_changed()
    return view.page("bulk.html", title=TITLES[name], criteria=criteria, act=name, outcome=outcome)


def _act_on(view: View, name: str, chunk: Sequence[UUID], reason: str) -> BulkOutcome:
    """Run the action on these incidents in one transaction."""
    done = 0
    refused: Counter[str] = Counter()
    asked = _look_up(view, chunk) if name == "resend" else LookUp()
    with view.context.database.write() as session:
        for incident_id in chunk:
            incident = session.get(Incident, incident_id)
            if incident is None:
                refused["it was removed meanwhile"] += 1
                continue
            try:
                _step(view, name, reason, asked)(session, incident)
                done += 1
            except NotPossible as err:
                refused[str(err).partition(":")[0]] += 1
                if is_conflict(err.__cause__ or err):
                    raise
    return BulkOutcome(done, refused)


def _step(view: View, name: str, reason: str, asked: LookUp) -> Callable[[Session, Incident], object]:
    who = view.person.who
    if name == "resend":
        domain = view.context.policy.mail_domain

        def resend(session: Session, incident: Incident) -> object:
            token = asked.records.get(incident.digest)
            if token is None:
                raise NotPossible("the token store does not know the token, or does not answer")
            return operator_actions.resend(session, incident, token, domain=domain, who=who, reason=reason)

        return resend
    if name == "note":
        return lambda session, incident: operator_actions.annotate(session, incident, who=who, text=reason)
    step = operator_actions.close if name == "close" else operator_actions.reopen
    return lambda session, incident: step(session, incident, who=who, reason=reason)


def _look_up(view: View, chunk: Sequence[UUID]) -> LookUp:
    with view.context.database.read() as session:
        digests = {incident.digest for one in chunk if (incident := session.get(Incident, one)) is not None}
    return view.context.store.look_up(digests)


def _filter(values: dict[str, str]) -> Filter:
    try:
        return Filter.from_query(values)
    except BadFilter as err:
        raise BadRequest(str(err)) from None


def _act(form: dict[str, str]) -> str:
    name = form.get("act", "")
    if name not in TITLES:
        raise BadRequest("there is no such action")
    return name


def _sources(view: View, criteria: Filter) -> list[str]:
    known = {one.source for one in view.console.overview.get().sources}
    return sorted(known | ({criteria.source} if criteria.source else set()))
