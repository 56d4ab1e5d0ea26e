"""The console's page with the decisions that wait for an operator."""

from __future__ import annotations

from starlette.responses import Response
from starlette.routing import Route

from scanner.compromise import brake, brake_status, settling
from scanner.records.states import Decision
from scanner.response import operator_actions
from scanner.response.operator_actions import NotPossible
from workers.wake import wake_outbox
from workers.web.console.queries import decisions as query
from workers.web.console.serving import BadRequest, Console, View

PATH = "/console/decisions"
ANSWERS = ("release", "reject")


def routes(console: Console) -> list[Route]:
    """Return the routes of the page and of its forms."""
    return [
        Route(PATH, console.page(show), methods=["GET"]),
        Route(f"{PATH}/confirm", console.page(confirm), methods=["GET"]),
        Route(f"{PATH}/release", console.action(release, is_long=True), methods=["POST"]),
        Route(f"{PATH}/reject", console.action(reject, is_long=True), methods=["POST"]),
    ]


def show(view: View) -> Response:
    """Render the page with the waiting decisions."""
    with view.reading() as session:
        return view.page(
            "decisions.html",
            groups=brake_status.held_reports(session),
            last=query.last_brake_decision(session),
            protected=query.open_with(session, Decision.PROTECTED),
            flagged=query.open_with(session, Decision.FLAGGED),
            used=brake_status.read(session).disabled_last_minute,
            per_minute=view.context.settings.brake_per_minute,
        )


def confirm(view: View) -> Response:
    """Ask the operator to confirm a decision about all waiting reports."""
    answer = view.query.get("act", "")
    if answer not in ANSWERS:
        raise BadRequest("there is no such decision about the brake")
    with view.reading() as session:
        groups, held = brake_status.held_reports(session), brake_status.read(session).held
    return view.page("brake.html", act=answer, groups=groups, held=held)


def release(view: View) -> Response:
    """Disable the tokens of all waiting reports. Later reports need no decision until the disable quota is reached
    again.
    """
    context = view.context
    reason = _confirmed(view)
    with context.database.write() as session:
        ids = brake.release(session, who=view.person.who, reason=reason)
    settling.settle(context.database, ids, policy=context.policy, per_minute=context.settings.brake_per_minute)
    wake_outbox()
    return view.go(PATH, said="released")


def reject(view: View) -> Response:
    """Reject all waiting reports. Later reports need no decision until the disable quota is reached again."""
    reason = _confirmed(view)
    with view.context.database.write() as session:
        brake.reject(session, who=view.person.who, reason=reason)
    return view.go(PATH, said="rejected")


def _confirmed(view: View) -> str:
    """Return the operator's reason. Raise NotPossible if the waiting reports have changed."""
    reason = operator_actions.cleaned(view.form.get("reason", ""))
    with view.context.database.read() as session:
        held = brake_status.read(session).held
    if str(held) != view.form.get("held"):
        raise NotPossible(f"the brake holds {held} reports by now: look at the page again, then decide")
    return reason
