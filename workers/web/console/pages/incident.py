"""The console's page of one incident, with its actions and its mails."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy.orm import Session
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from notifications.email.facts import MailFacts
from scanner.compromise import reports, settling
from scanner.compromise.reports import Subject
from scanner.records import audit
from scanner.records.models import Incident, Notification
from scanner.records.states import Decision, EnforceMode
from scanner.response import operator_actions
from scanner.response.operator_actions import NotPossible
from scanner.response.timeline import Moment
from scanner.tokens.protocol import StoreUnavailable, TokenRecord
from workers.wake import wake_outbox
from workers.web.console import rendering
from workers.web.console.protections import MAIL_HEADERS
from workers.web.console.queries import incident as query
from workers.web.console.queries import incidents as list_query
from workers.web.console.queries.incident import Story
from workers.web.console.queries.incident_rows import Row, rows_of
from workers.web.console.serving import Console, NotThere, View

PATH = "/console/incidents/{id}"
PLACE_MOMENTS = ("became public", "seen")
MAX_PLACE_MOMENTS = 10
MAX_URL = 500
MAX_REPORTER = 64
SIGN = "operator_evidence"
"""The kind of evidence of reports that operators make in the console."""


def routes(console: Console) -> list[Route]:
    """Return the routes of the page, its actions and its mails."""
    acts = {
        "assign": assign,
        "note": note,
        "close": close,
        "reopen": reopen,
        "resend": resend,
        "enable": enable,
        "disable": disable,
        "protect": protect,
        "unprotect": unprotect,
    }
    return [
        Route(PATH, console.page(show), methods=["GET"]),
        *(Route(f"{PATH}/{name}", console.action(act), methods=["POST"]) for name, act in acts.items()),
        Route("/console/mails/{id}", console.page(show_mail)),
        Route("/console/mails/{id}/html", console.page(mail_html)),
    ]


def show(view: View) -> Response:
    """Render the page of one incident."""
    after = view.query.get("after", "")
    with view.reading() as session:
        place = int(after) if after.isascii() and after.isdecimal() and len(after) <= 18 else 0
        story = query.load(session, view.path_id(), place)
        if story is None:
            raise NotThere
        row = rows_of(session, [story.incident])[0]
        moments = short(story.moments)
        return view.page(
            "incident.html",
            one=story.incident,
            story=story,
            most_places=query.MAX_PLACES_COUNTED,
            moments=moments,
            left_out=len(story.moments) - len(moments),
            places=[(one, rendering.link_of(one.url, view.context.settings)) for one in story.places],
            summary=summary(row),
            can=_possible(view, story),
        )


def summary(row: Row) -> str:
    """Return a summary of the incident in a few sentences."""
    one = row.incident
    is_gist = row.first is not None and row.first.kind in ("gist", "gist_comment")
    where = f"in {row.repository}" if row.repository else "in a public gist" if is_gist else "in public"
    found = f"It was found {where}" if row.places else "It was reported as compromised"
    more = f" and {row.more} place{'s' if row.places > 2 else ''}" if row.more else ""
    done = {
        Decision.DISABLED: f"disabled {rendering.span(row.seconds)} after it became public"
        if row.seconds is not None
        else "disabled",
        Decision.ALREADY_DISABLED: "had been disabled before",
        Decision.DISABLING: "is being disabled by the token store",
        Decision.PROTECTED: "is protected, so it stays live until you decide",
        Decision.OBSERVED: "is live, because R8SCAN_ENFORCE is observe",
        Decision.HELD: "is live until you release the brake",
        Decision.FLAGGED: "is live, because the rule only notifies",
        Decision.REJECTED: "is live, because an operator rejected the report",
    }.get(one.action, "is no longer known to the token store")
    mails = {"sent": "Its owner was notified", "waiting": "The mail to its owner is waiting", "failed": "A mail failed"}
    told = ". ".join(mails[state] for state in row.mails) or "Its owner was not mailed"
    return f"{found}{more}, and {done}. {told}."


def short(moments: Sequence[Moment]) -> list[Moment]:
    """Return the timeline with at most MAX_PLACE_MOMENTS entries about places where the token was found."""
    found, places = [], 0
    for moment in moments:
        places += moment.what in PLACE_MOMENTS
        if moment.what not in PLACE_MOMENTS or places <= MAX_PLACE_MOMENTS:
            found.append(moment)
    return found


def note(view: View) -> Response:
    """Add a note to the incident's timeline."""
    return _decide(view, "noted", operator_actions.annotate, "text")


def assign(view: View) -> Response:
    """Assign the incident to the person in the form."""
    with view.context.database.write() as session:
        operator_actions.assign(session, _incident(view, session), who=view.person.who, to=view.form.get("to", ""))
    return _back(view, "assigned")


def close(view: View) -> Response:
    """Close the incident for the reason in the form."""
    return _decide(view, "closed", operator_actions.close)


def reopen(view: View) -> Response:
    """Open a closed incident again, for the reason in the form."""
    return _decide(view, "reopened", operator_actions.reopen)


def resend(view: View) -> Response:
    """Queue the owner's mail again, for the addresses that the token store has now."""
    token = _token(view)
    with view.context.database.write() as session:
        operator_actions.resend(
            session,
            _incident(view, session),
            token,
            domain=view.context.policy.mail_domain,
            who=view.person.who,
            reason=view.form.get("reason", ""),
        )
    wake_outbox()
    return _back(view, "resent")


def enable(view: View) -> Response:
    """Enable the incident's token again in r8scan's own token store."""
    _require_own_store(view)
    reason = view.form.get("reason", "")
    with view.context.database.write() as session:
        incident = _incident(view, session)
        if not operator_actions.enable_token(session, incident.digest, who=view.person.who, reason=reason):
            raise NotPossible("the token is not disabled, or the store does not know it")
    return _back(view, "enabled")


def protect(view: View) -> Response:
    """Protect the incident's token, so that it is not disabled automatically."""
    return _protect(view, True, "protected")


def unprotect(view: View) -> Response:
    """Remove the protection of the incident's token."""
    return _protect(view, False, "unprotected")


def disable(view: View) -> Response:
    """Disable the incident's token. The form contains a reason and a link as evidence."""
    # The limit on automatic disables does not apply, because a person has decided.
    url, reason = _evidence(view.form.get("url", "")), operator_actions.cleaned(view.form.get("reason", ""))
    if view.context.policy.enforce != EnforceMode.DISABLE:
        raise NotPossible("nothing is disabled while R8SCAN_ENFORCE is observe")
    token = _token(view)
    if token.disabled_at is not None:
        raise NotPossible("the token is disabled already")
    if token.is_protected:
        raise NotPossible("the token is protected: remove the protection first")
    context = view.context
    with context.database.read() as session:
        incident = _incident(view, session)
    report = reports.new_report(
        Subject(incident.digest, incident.hint),
        sign=SIGN,
        note=f"{reason} {url}",
        reporter=view.person.who[:MAX_REPORTER],
        key=uuid.uuid4().hex,
    )
    with context.database.write() as session:
        ids = reports.record_within(session, [dataclasses.replace(report, is_braked=False)])
        evidence = {"reason": reason, "url": url, "digest": incident.digest}
        audit.record(session, "disable_decided", evidence, who=view.person.who, incident_id=incident.id)
    settling.settle(context.database, ids, policy=context.policy, per_minute=context.settings.brake_per_minute)
    wake_outbox()
    done = settling.decisions(context.database, ids)
    return _back(view, "disabled" if done[Decision.DISABLED] else "disabling")


def show_mail(view: View) -> Response:
    """Render a mail and its delivery state."""
    from notifications.email.render import render  # the templates of mails take 4 MB

    with view.reading() as session:
        row, facts = _mail(view, session)
        rendered = render(facts, view.context.identity)
        return view.page("mail.html", row=row, subject=rendered.subject, incident_ids=facts.incident_ids)


def mail_html(view: View) -> Response:
    """Return the HTML of a mail. The headers forbid scripts and external requests."""
    from notifications.email.render import render

    with view.reading() as session:
        _, facts = _mail(view, session)
    identity = view.context.identity
    html = render(facts, identity).html
    return HTMLResponse(identity.logo.inlined(html) if identity.logo else html, headers=MAIL_HEADERS)


def _decide(view: View, said: str, step: Callable[..., Any], words: str = "reason") -> Response:
    with view.context.database.write() as session:
        step(session, _incident(view, session), who=view.person.who, **{words: view.form.get("reason", "")})
    return _back(view, said)


def _protect(view: View, protected: bool, said: str) -> Response:
    _require_own_store(view)
    reason = operator_actions.cleaned(view.form.get("reason", ""))
    with view.context.database.write() as session:
        incident = _incident(view, session)
        operator_actions.protect_token(session, incident.digest, protected=protected, who=view.person.who)
        operator_actions.annotate(session, incident, who=view.person.who, text=reason)
    return _back(view, said)


def _possible(view: View, story: Story) -> dict[str, bool]:
    """Return for each action whether the page offers it."""
    is_own = view.context.settings.token_store_url is None
    token = story.token
    is_disabled = story.incident.disabled_at is not None if not is_own else bool(token and token.disabled_at)
    is_protected = bool(token and token.protected_at)
    is_known = token is not None or not is_own
    return {
        "disable": is_known
        and not is_disabled
        and not is_protected
        and view.context.settings.enforce == EnforceMode.DISABLE,
        "enable": is_own and is_disabled,
        "protect": is_own and token is not None and not is_protected,
        "unprotect": is_own and is_protected,
        "resend": story.incident.action in operator_actions.MAILED_ACTIONS and is_disabled,
        "close": query.is_open(story.incident),
    }


def _incident(view: View, session: Session) -> Incident:
    incident = session.get(Incident, view.path_id())
    if incident is None:
        raise NotThere
    return incident


def _token(view: View) -> TokenRecord:
    """Return the token store's record of the token. Raise NotPossible if the store no longer knows it."""
    with view.context.database.read() as session:
        digest = _incident(view, session).digest
    found = view.context.store.look_up([digest])
    if digest in found.not_checked:
        raise StoreUnavailable("it cannot look the token up now")
    if digest not in found.records:
        raise NotPossible("the token store no longer knows the token")
    return found.records[digest]


def _require_own_store(view: View) -> None:
    if view.context.settings.token_store_url is not None:
        raise NotPossible("the tokens are in the vendor's own store: change them there")


def _evidence(text: str) -> str:
    parts = urlsplit(text.strip()[: MAX_URL + 1])
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or len(text.strip()) > MAX_URL:
        raise NotPossible("give the address of the evidence: it begins with https:// and has at most 500 characters")
    return operator_actions.cleaned(text)


def _mail(view: View, session: Session) -> tuple[Notification, MailFacts]:
    row = session.get(Notification, view.path_id())
    if row is None or row.facts is None or row.channel not in list_query.MAIL_CHANNELS:
        raise NotThere
    try:
        return row, MailFacts.from_json(row.facts)
    except (KeyError, TypeError, ValueError):
        raise NotThere from None


def _back(view: View, said: str) -> Response:
    return view.go(f"/console/incidents/{view.path_id()}", said=said)
