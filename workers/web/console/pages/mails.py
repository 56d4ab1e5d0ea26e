"""The outbox: mails to owners and the operator, and announcements to gateways."""

from __future__ import annotations

from starlette.responses import Response
from starlette.routing import Route

from scanner.records.announcements import CHANNELS
from scanner.records.states import NotificationState
from workers.web.console.queries import lists
from workers.web.console.queries.incidents import MAIL_CHANNELS, BadFilter
from workers.web.console.serving import BadRequest, Console, View

PATH = "/console/outbox"


def routes(console: Console) -> list[Route]:
    """Return the page's route."""
    return [Route(PATH, console.page(show), methods=["GET"])]


def show(view: View) -> Response:
    """Render the list."""
    values = {name: view.query.get(name, "") for name in ("state", "channel", "recipient")}
    with view.reading() as session:
        try:
            found = lists.message_list(session, view.query)
        except BadFilter as err:
            raise BadRequest(str(err)) from None
        return view.page(
            "outbox.html",
            listed=found,
            told=lists.incidents_told(session, found.rows),
            values=values,
            before=view.query.get("before", ""),
            states=tuple(NotificationState),
            channels=(*MAIL_CHANNELS, *CHANNELS),
            mail_channels=MAIL_CHANNELS,
            outbox=view.console.overview.get().outbox,
        )
