"""The page of decisions that wait for an operator: the brake, protected tokens and flagged tokens."""

from __future__ import annotations

from starlette.responses import Response
from starlette.routing import Route

from scanner.compromise import brake, settling
from scanner.records.states import Decision
from scanner.response.operator_actions import NotPossible
from workers.wake import wake_outbox
from workers.web.console.queries import decisions as query
from workers.web.console.serving import Console, View

PATH = "/console/decisions"


def routes(console: Console) -> list[Route]:
    """Return the routes of the page."""
    return [
        Route(PATH, console.page(show), methods=["GET"]),
        Route(f"{PATH}/release", console.action(release, is_long=True), methods=["POST"]),
        Route(f"{PATH}/reject", console.action(reject, is_long=True), methods=["POST"]),
    ]


def show(view: View) -> Response:
    """Render the page."""
    with view.reading() as session:
        return view.page(
            "decisions.html",
            groups=query.held_groups(session),
            protected=query.open_with(session, Decision.PROTECTED),
            flagged=query.open_with(session, Decision.FLAGGED),
            used=brake.status(session).disabled_last_minute,
            per_minute=view.context.settings.brake_per_minute,
        )


def release(view: View) -> Response:
    """Open the brake and disable the held tokens."""
    context = view.context
    _require_same(view)
    with context.database.write() as session:
        ids = brake.release(session, who=view.person.who)
    settling.settle(context.database, ids, policy=context.policy, per_minute=context.settings.brake_per_minute)
    wake_outbox()
    return view.go(PATH, said="released")


def reject(view: View) -> Response:
    """Open the brake and reject the held reports."""
    _require_same(view)
    with view.context.database.write() as session:
        brake.reject(session, who=view.person.who)
    return view.go(PATH, said="rejected")


def _require_same(view: View) -> None:
    """Refuse if the brake holds more reports than the page showed, because the person has not agreed to the additional
    ones.
    """
    with view.context.database.read() as session:
        held = brake.status(session).held
    if str(held) != view.form.get("held"):
        raise NotPossible(f"the brake holds {held} reports by now: look at the page again, then decide")
