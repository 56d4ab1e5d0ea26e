"""The console's list of outgoing messages: mails to owners and the operator, and announcements to API gateways."""

from __future__ import annotations

from starlette.responses import Response
from starlette.routing import Route

from scanner.records.announcements import CHANNELS
from scanner.records.models import Notification
from scanner.records.states import Channel, NotificationState
from scanner.response import operator_actions, outbox_actions
from scanner.response.operator_actions import NotPossible
from workers.wake import wake_outbox
from workers.web.console.queries import lists
from workers.web.console.queries.incidents import MAIL_CHANNELS, BadFilter
from workers.web.console.serving import BadRequest, Console, NotThere, View

PATH = "/console/outbox"


def routes(console: Console) -> list[Route]:
    """Return the routes of the list and its action."""
    return [
        Route(PATH, console.page(show), methods=["GET"]),
        Route(f"{PATH}/{{id}}/retry", console.action(retry), methods=["POST"]),
    ]


def show(view: View) -> Response:
    """Render the list of messages that match the filter in the URL."""
    values = {name: view.query.get(name, "") for name in ("state", "channel", "recipient")}
    with view.reading() as session:
        try:
            found = lists.message_list(session, view.query)
        except BadFilter as err:
            raise BadRequest(str(err)) from None
        return view.page(
            "outbox.html",
            listed=found,
            told=lists.incidents_reported(session, found.rows),
            values=values,
            before=view.query.get("before", ""),
            states=tuple(NotificationState),
            channels=(*MAIL_CHANNELS, *CHANNELS),
            mail_channels=MAIL_CHANNELS,
            outbox=view.console.overview.get().outbox,
        )


def retry(view: View) -> Response:
    """Queue a failed message again. A mail to an owner goes to the owner's current addresses."""
    context = view.context
    with context.database.read() as session:
        message = session.get(Notification, view.path_id())
        if message is None:
            raise NotThere
        is_owners = message.channel == Channel.EMAIL and message.state == NotificationState.FAILED
        digests = {subject.incident.digest for subject in message.subjects} if is_owners else set()
    found = context.store.look_up(digests)
    with context.database.write() as session:
        message = session.get(Notification, view.path_id())
        if message is None:
            raise NotThere
        if not is_owners:
            outbox_actions.retry(session, message, who=view.person.who)
        for incident in [subject.incident for subject in message.subjects] if is_owners else ():
            token = found.records.get(incident.digest)
            if token is None:
                raise NotPossible("the token store does not know the token, or does not answer")
            reason = "tried again from the outbox"
            operator_actions.resend(
                session, incident, token, domain=context.policy.mail_domain, who=view.person.who, reason=reason
            )
    wake_outbox()
    return view.go(PATH, said="retried")
