"""From facts to subject, text and HTML by the templates, and from those to a message. Sends nothing."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from email.errors import HeaderParseError
from email.headerregistry import Address, HeaderRegistry
from email.message import EmailMessage
from email.policy import EmailPolicy
from email.utils import format_datetime, parseaddr
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import (
    BaseLoader,
    ChoiceLoader,
    Environment,
    FileSystemLoader,
    PrefixLoader,
    StrictUndefined,
    select_autoescape,
)
from jinja2.sandbox import ImmutableSandboxedEnvironment

from notifications.email import page as pages
from notifications.email.facts import MailFacts
from notifications.email.logo import Logo
from notifications.email.palette import DARK, LIGHT
from notifications.email.wording import clean, duration_words, kind_words, number_words, shorten, time_words, wrap
from scanner.detection import redact

BUILT_IN = Path(__file__).parent.parent / "templates"
SHARED = "shared"
MAX_SUBJECT_LENGTH = 160
MAX_BODY_BYTES = 1024 * 1024
MAX_INCIDENT_HEADERS = 20

_EMPTY_FIRST_LINE = re.compile(rb"([!-9;-~]+:)\r\n( [^\r\n]+)")
_MESSAGE_ID = re.compile(r"<[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[A-Za-z0-9.\[\]:-]+>")

_log = logging.getLogger(__name__)


class _Policy(EmailPolicy):
    """The library's policy, but no header becomes several, and none begins with an empty line.

    It folds so whenever a value fits into one line of its own, but not beside the header's name: readers show a space
    there, or nothing at all.
    """

    def fold_binary(self, name: str, value: str) -> bytes:
        """The header in lines of at most `max_line_length`."""
        folded = super().fold_binary(name, value)
        if any(not line.startswith((b" ", b"\t")) for line in folded.splitlines()[1:]):
            raise ValueError(f"the header {name} would become several")
        found = _EMPTY_FIRST_LINE.match(folded)
        if found is None:
            return folded
        line = found[1] + found[2]
        at = line.rfind(b" ", len(found[1]) + 1, self.max_line_length)
        return folded if at < 0 else line[:at] + b"\r\n" + line[at:] + folded[found.end() :]


class _Headers(HeaderRegistry):
    """The library's registry, which makes a class anew for each header of each mail: here once for each name."""

    def __init__(self) -> None:
        super().__init__()
        self._kinds: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._kinds:
            self._kinds[name] = super().__getitem__(name)
        return self._kinds[name]


# Bodies are quoted-printable, whose lines have at most 76 characters (RFC 2045, section 6.7).
_POLICY = _Policy(linesep="\r\n", cte_type="7bit", max_line_length=76, header_factory=_Headers())


class UnusableAddress(ValueError):
    """The recipient's or the sender's address cannot stand in a mail; the message says which."""


@dataclass(frozen=True)
class MailIdentity:
    """Who speaks: the brand and the addresses in the mails, and the folder with the operator's own templates.

    `bounces_to` is where servers send a mail back to, instead of `sender`. Links lead to `github_web_url` only.
    """

    sender: str
    vendor_name: str = "Replicate"
    account_tokens_url: str = "https://replicate.com/account/api-tokens"
    usage_url: str | None = None
    support_contact: str | None = None
    operator_email: str | None = None
    template_dir: Path | None = None
    logo: Logo | None = None
    bounces_to: str | None = None
    github_web_url: str = "https://github.com"


@dataclass(frozen=True, slots=True)
class Rendered:
    """One mail's words. `complaint` says why the operator's own templates were not used; None: all is well."""

    subject: str
    text: str
    html: str
    complaint: str | None = None


def render(facts: MailFacts, identity: MailIdentity) -> Rendered:
    """Render with the operator's templates; where they fail, with our own, and say so in `complaint`."""
    if identity.template_dir is None:
        return render_strictly(facts, identity)
    try:
        return render_strictly(facts, identity)
    except Exception as err:  # noqa: BLE001 - a template may raise whatever it likes: no mail may wait for its repair
        complaint = f"own templates not used: {reason_of(err)}"
        _log.error(
            "the built-in mail templates are used", extra={"folder": str(identity.template_dir), "error": complaint}
        )
    rendered = _render(facts, identity, _environment(None))
    return Rendered(rendered.subject, rendered.text, rendered.html, complaint)


def render_strictly(facts: MailFacts, identity: MailIdentity) -> Rendered:
    """The same without falling back: whatever the templates raise comes out."""
    if identity.template_dir is not None and not identity.template_dir.is_dir():
        raise FileNotFoundError(f"{identity.template_dir} is not a folder")
    return _render(facts, identity, _environment(identity.template_dir))


def reason_of(err: BaseException) -> str:
    """One line for an error of a template: where and what."""
    where = getattr(err, "name", None) or getattr(err, "filename", None)
    line = getattr(err, "lineno", None)
    place = f"{where}, line {line}: " if where and line else f"{where}: " if where else ""
    return clean(f"{place}{type(err).__name__}: {err}", 300)


def compose(
    rendered: Rendered,
    identity: MailIdentity,
    *,
    recipient: str,
    message_id: str,
    date: datetime,
    incident_ids: Sequence[str],
) -> EmailMessage:
    """The message with both bodies, and the logo where the HTML shows it.

    UnusableAddress when `recipient` is none, or the sender.
    """
    message = EmailMessage(policy=_POLICY)
    message["From"] = sender_address(identity)
    message["To"] = _address("", recipient)
    message["Subject"] = _undecodable(rendered.subject)
    message["Date"] = format_datetime(date)
    if not _MESSAGE_ID.fullmatch(message_id):
        raise ValueError("the Message-ID of the row is malformed")
    message["Message-ID"] = message_id
    with contextlib.suppress(UnusableAddress):  # the contact may as well be a page or a sentence
        message["Reply-To"] = _address("", identity.support_contact or "")
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834
    message["X-Auto-Response-Suppress"] = "All"
    for incident_id in incident_ids[:MAX_INCIDENT_HEADERS]:
        message["X-R8scan-Incident"] = _undecodable(clean(incident_id))
    message.set_content(rendered.text, cte="quoted-printable")
    message.add_alternative(rendered.html, subtype="html", cte="quoted-printable")
    if identity.logo and identity.logo.source in rendered.html:
        _attach_logo(message, identity.logo)
    return message


def _attach_logo(message: EmailMessage, logo: Logo) -> None:
    """Make the HTML and its logo one part (multipart/related, RFC 2387): shown inside, not listed as an attachment."""
    html = message.get_body(("html",))
    assert isinstance(html, EmailMessage)  # noqa: S101 - we have just added it
    html.add_related(
        logo.content,
        "image",
        logo.subtype,
        cid=f"<{logo.content_id}>",
        disposition="inline",
        filename=f"logo.{logo.subtype}",
    )


def _undecodable(value: str) -> str:
    """The value without beginnings of encoded words (RFC 2047).

    The library decodes them in what it is given to encode: a name that spells a line end so would begin a new header.
    """
    return value.replace("=?", "= ?")


def sender_address(identity: MailIdentity) -> Address:
    """Name and address of the sender. UnusableAddress when the setting holds none."""
    name, address = parseaddr(identity.sender)
    return _address(_undecodable(clean(name)), address)


def envelope_sender(identity: MailIdentity) -> str:
    """Where a mail that cannot be delivered goes back to. UnusableAddress when the settings hold none."""
    sender = sender_address(identity)
    returns = _address("", parseaddr(identity.bounces_to)[1]) if identity.bounces_to else sender
    return returns.addr_spec


def _address(name: str, address: str) -> Address:
    if not address or "=?" in address or any(char.isspace() or not char.isprintable() for char in address):
        raise UnusableAddress("this is no mail address")
    local, _, domain = address.rpartition("@")
    if not local or not domain:
        raise UnusableAddress("this is no mail address")
    try:
        parsed = Address(display_name=name, addr_spec=f"{local}@{domain.encode('idna').decode('ascii')}")
    except (ValueError, IndexError, HeaderParseError) as err:
        raise UnusableAddress("this is no mail address") from err
    if not parsed.username.isascii():
        raise UnusableAddress("addresses with letters beyond ASCII before the @ cannot be reached")
    return parsed


def _render(facts: MailFacts, identity: MailIdentity, environment: Environment) -> Rendered:
    shown: dict[str, Any] = {
        "mail": pages.cleaned(facts),
        "identity": {
            "vendor_name": clean(identity.vendor_name),
            "account_tokens_url": clean(identity.account_tokens_url, 300),
            "usage_url": clean(identity.usage_url, 300) if identity.usage_url else None,
            "support_contact": clean(identity.support_contact, 300) if identity.support_contact else None,
            "logo": identity.logo,
        },
    }
    own = environment.get_template(f"{facts.variant}/words.txt").make_module(shown)
    shared = environment.get_template(f"{SHARED}/words.txt").make_module(shown)

    def words(name: str) -> pages.Macro:
        macro = getattr(own, name, None) or getattr(shared, name, None)
        if macro is None:
            raise pages.WordsError(f"{facts.variant}/words.txt has no macro `{name}`")
        return macro  # type: ignore[no-any-return]  # templates have no types

    shown["page"] = pages.build(facts, words, identity.github_web_url)
    subject = environment.get_template(f"{facts.variant}/subject.txt").render(shown)
    shown["subject"] = clean(" ".join(subject.split()), MAX_SUBJECT_LENGTH)
    text, html = (
        environment.select_template([f"{facts.variant}/{name}", f"{SHARED}/{name}"]).render(shown)
        for name in ("body.txt", "body.html")
    )
    if not shown["subject"] or not text.strip() or not html.strip():
        raise ValueError("a template gave an empty subject or body")
    if max(len(text), len(html)) > MAX_BODY_BYTES:
        raise ValueError("a template gave a body of more than a megabyte")
    return Rendered(shown["subject"], redact(_without_gaps(text)), redact(html))


def _without_gaps(text: str) -> str:
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


@lru_cache(maxsize=4)
def _environment(template_dir: Path | None) -> Environment:
    built_in = FileSystemLoader(BUILT_IN)
    loaders: list[BaseLoader] = [built_in, PrefixLoader({"builtin": built_in})]
    if template_dir is not None:
        loaders.insert(0, FileSystemLoader(template_dir))
    # Only what others have written needs a sandbox, which costs a quarter of the time.
    kind = Environment if template_dir is None else ImmutableSandboxedEnvironment
    environment = kind(
        loader=ChoiceLoader(loaders),
        autoescape=select_autoescape(("html",), default=False, default_for_string=False),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        time=time_words, duration=duration_words, number=number_words, kind=kind_words, shorten=shorten, wrap=wrap
    )
    environment.globals.update(light=LIGHT, dark=DARK)
    return environment
