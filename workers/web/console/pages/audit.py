"""The console's page with the audit log and the check of its hash chain."""

from __future__ import annotations

from starlette.responses import Response
from starlette.routing import Route

from scanner.records.audit_verification import AuditBroken, verify
from workers.web.console.queries import lists
from workers.web.console.queries.incidents import BadFilter
from workers.web.console.serving import BadRequest, ChainCheck, Console, View

PATH = "/console/audit"


def routes(console: Console) -> list[Route]:
    """Return the routes of the page."""
    return [
        Route(PATH, console.page(show), methods=["GET"]),
        Route(f"{PATH}/verify", console.action(check, for_viewers=True, is_long=True), methods=["POST"]),
    ]


def show(view: View) -> Response:
    """Render the audit entries that match the filter in the URL."""
    values = {name: view.query.get(name, "") for name in ("who", "what", "incident", "people", "sign_ins")}
    with view.reading() as session:
        try:
            found = lists.audit_list(session, view.query)
        except BadFilter as err:
            raise BadRequest(str(err)) from None
        return view.page(
            "audit.html",
            listed=found,
            values=values,
            before=view.query.get("before", ""),
            checked=view.console.chain_check,
        )


def check(view: View) -> Response:
    """Verify the hash chain of the whole audit log, and redirect to the page that shows the result."""
    try:
        found = verify(view.context.database)
        view.console.chain_check = ChainCheck(view.console.now(), found.entries, "", found.last_id, found.last_hash)
    except AuditBroken as err:
        view.console.chain_check = ChainCheck(view.console.now(), 0, str(err))
    return view.go(PATH)
