"""Renders mails: fills the templates with data, and composes the messages."""

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

from notifications.email import page
from notifications.email.facts import MailFacts
from notifications.email.logo import Logo
from notifications.email.page import Words, WordsError
from notifications.email.palette import DARK, LIGHT
from notifications.email.view import mail_view
from notifications.email.wording import clean, duration_words, kind_words, number_words, shorten, time_words, wrap
from scanner.detection import redact

BUILT_IN = Path(__file__).parent.parent / "templates"
SHARED = "shared"
VARIANTS = tuple(sorted(folder.name for folder in BUILT_IN.iterdir() if folder.name != SHARED))
"""The names of the folders of templates, one for each kind of mail."""
MAX_SUBJECT_LENGTH = 160
MAX_BODY_BYTES = 1024 * 1024
MAX_INCIDENT_HEADERS = 20

_EMPTY_FIRST_LINE = re.compile(rb"([!-9;-~]+:)\r\n( [^\r\n]+)")
_MESSAGE_ID = re.compile(r"<[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[A-Za-z0-9.\[\]:-]+>")

_log = logging.getLogger(__name__)


class _Policy(EmailPolicy):
    """The standard library's policy for writing mails, with two corrections."""

    def fold_binary(self, name: str, value: str) -> bytes:
        """Return the header as bytes, in lines of at most `max_line_length` if possible."""
        folded = super().fold_binary(name, value)
        # Refuse a value that would begin another header.
        if any(not line.startswith((b" ", b"\t")) for line in folded.splitlines()[1:]):
            raise ValueError(f"the header {name} would become several")
        # Some mail programs show a wrong value if the first line contains only the header's name.
        found = _EMPTY_FIRST_LINE.match(folded)
        if found is None:
            return folded
        line = found[1] + found[2]
        at = line.rfind(b" ", len(found[1]) + 1, self.max_line_length)
        return folded if at < 0 else line[:at] + b"\r\n" + line[at:] + folded[found.end() :]


class _Headers(HeaderRegistry):
    """The standard library's factory of header classes, with a cache."""

    def __init__(self) -> None:
        super().__init__()
        self._kinds: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._kinds:
            self._kinds[name] = super().__getitem__(name)
        return self._kinds[name]


# Mail bodies are encoded as quoted-printable, which allows at most 76 characters in a line (RFC 2045, section 6.7).
_POLICY = _Policy(linesep="\r\n", cte_type="7bit", max_line_length=76, header_factory=_Headers())


class UnusableAddress(ValueError):
    """Raised for an address that cannot be used in a mail. The message is one line with the reason."""


@dataclass(frozen=True)
class MailIdentity:
    """The sender of mails: the vendor's brand and addresses, and the folder of custom templates.

    Attributes:
        sender: The name and address in the header From.
        vendor_name: The name of the vendor in mails.
        account_tokens_url: The page on which an owner manages tokens.
        usage_url: The page on which an owner sees how tokens were used.
        support_contact: The contact that mails give for questions: an address, a URL or a sentence.
        operator_email: The address for mails to the operator.
        template_dir: The folder of custom templates.
        logo: The vendor's logo.
        bounces_to: The address to which mail servers return mails. None means the address in `sender`.
        github_web_url: The web address of the watched GitHub.
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
    """The subject and the two bodies of one mail.

    `template_error` is the reason why the custom templates could not be used, or None.
    """

    subject: str
    text: str
    html: str
    template_error: str | None = None


def render(facts: MailFacts, identity: MailIdentity) -> Rendered:
    """Render a mail. If the custom templates fail, log the error and use the built-in templates."""
    if identity.template_dir is None:
        return render_strictly(facts, identity)
    try:
        return render_strictly(facts, identity)
    except Exception as err:  # noqa: BLE001 - a template may raise anything, and no mail may wait for its repair
        template_error = f"custom templates not used: {reason_of(err)}"
        _log.error(
            "a mail uses the built-in templates because the custom ones failed: run `r8scan email check`",
            extra={"folder": str(identity.template_dir), "error": template_error},
        )
    rendered = _render(facts, identity, _environment(None))
    return Rendered(rendered.subject, rendered.text, rendered.html, template_error)


def render_strictly(facts: MailFacts, identity: MailIdentity) -> Rendered:
    """Render a mail. If a custom template fails, raise its exception."""
    if identity.template_dir is not None and not identity.template_dir.is_dir():
        raise FileNotFoundError(f"{identity.template_dir} is not a folder")
    return _render(facts, identity, _environment(identity.template_dir))


def reason_of(err: BaseException) -> str:
    """Return one line that says where and why a template raised this exception."""
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
    """Return the complete message of a rendered mail.

    Args:
        rendered: The subject and the bodies.
        identity: The sender.
        recipient: The address of the recipient.
        message_id: The Message-ID, with angle brackets.
        date: The time for the header Date.
        incident_ids: The ids of the mail's incidents, for headers that programs read.

    Raises:
        UnusableAddress: the address of the recipient or the sender cannot be used.
        ValueError: `message_id` is malformed.
    """
    message = EmailMessage(policy=_POLICY)
    message["From"] = sender_address(identity)
    message["To"] = _address("", recipient)
    message["Subject"] = _undecodable(rendered.subject)
    message["Date"] = format_datetime(date)
    if not _MESSAGE_ID.fullmatch(message_id):
        raise ValueError("the Message-ID of the row is malformed")
    message["Message-ID"] = message_id
    with contextlib.suppress(UnusableAddress):  # the contact may be a URL or a sentence instead
        message["Reply-To"] = _address("", identity.support_contact or "")
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834
    message["X-Auto-Response-Suppress"] = "All"
    for incident_id in incident_ids[:MAX_INCIDENT_HEADERS]:
        message["X-R8scan-Incident"] = header_line(incident_id)
    message.set_content(rendered.text, cte="quoted-printable")
    message.add_alternative(rendered.html, subtype="html", cte="quoted-printable")
    if identity.logo and identity.logo.source in rendered.html:
        _attach_logo(message, identity.logo)
    return message


def _attach_logo(message: EmailMessage, logo: Logo) -> None:
    """Attach the logo to the mail's HTML (multipart/related, RFC 2387)."""
    html = message.get_body(("html",))
    assert isinstance(html, EmailMessage)  # noqa: S101 - `compose` has just added it
    html.add_related(
        logo.content,
        "image",
        logo.subtype,
        cid=f"<{logo.content_id}>",
        disposition="inline",
        filename=f"logo.{logo.subtype}",
    )


def header_line(value: str, longest: int = MAX_SUBJECT_LENGTH) -> str:
    """Return any text as one safe header line of at most `longest` characters."""
    return _undecodable(clean(value, longest))


def _undecodable(value: str) -> str:
    """Put a space into each `=?`, so that the value contains no encoded word (RFC 2047)."""
    # The standard library would decode encoded words, and a line end in one of them would begin a new header.
    return value.replace("=?", "= ?")


def sender_address(identity: MailIdentity) -> Address:
    """Return the name and address for the header From.

    Raises:
        UnusableAddress: the setting contains no usable address.
    """
    name, address = parseaddr(identity.sender)
    return _address(_undecodable(clean(name)), address)


def envelope_sender(identity: MailIdentity) -> str:
    """Return the address to which mail servers return undeliverable mails (the envelope sender).

    Raises:
        UnusableAddress: the settings contain no usable address.
    """
    sender = sender_address(identity)
    returns = _address("", parseaddr(identity.bounces_to)[1]) if identity.bounces_to else sender
    return returns.addr_spec


def recipient_address(address: str) -> str:
    """Return the address with its domain in ASCII.

    Raises:
        UnusableAddress: no mail can be sent to it.
    """
    return _address("", address).addr_spec


def _address(name: str, address: str) -> Address:
    if not address or "=?" in address or any(char.isspace() or not char.isprintable() for char in address):
        raise UnusableAddress("this is not a mail address")
    local, _, domain = address.rpartition("@")
    if not local or not domain:
        raise UnusableAddress("this is not a mail address")
    if not local.isascii():
        raise UnusableAddress("addresses with letters beyond ASCII before the @ cannot be reached")
    try:
        return Address(display_name=name, addr_spec=f"{local}@{domain.encode('idna').decode('ascii')}")
    except (ValueError, IndexError, HeaderParseError) as err:
        raise UnusableAddress("this is not a mail address") from err


def _render(facts: MailFacts, identity: MailIdentity, environment: Environment) -> Rendered:
    mail = mail_view(facts, identity.github_web_url)
    shown: dict[str, Any] = {
        "mail": mail,
        "identity": {
            "vendor_name": clean(identity.vendor_name),
            "account_tokens_url": clean(identity.account_tokens_url, 300),
            "usage_url": clean(identity.usage_url, 300) if identity.usage_url else None,
            "support_contact": clean(identity.support_contact, 300) if identity.support_contact else None,
            "logo": identity.logo,
        },
    }
    shown["page"] = page.build(mail, _words(facts.variant, shown, environment))
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


def _words(variant: str, shown: dict[str, Any], environment: Environment) -> Words:
    special = environment.get_template(f"{variant}/words.txt").make_module(shown)
    shared = environment.get_template(f"{SHARED}/words.txt").make_module(shown)

    def macro(name: str) -> page.Macro:
        found = getattr(special, name, None) or getattr(shared, name, None)
        if not callable(found):
            raise WordsError(f"{variant}/words.txt has no macro `{name}`")
        return found  # type: ignore[no-any-return]  # templates have no types

    titles = [getattr(module, "titles", {}) for module in (shared, special)]
    if not all(isinstance(one, dict) for one in titles):
        raise WordsError(f"in {variant}/words.txt or {SHARED}/words.txt, `titles` is not a mapping")
    return Words(macro, titles[0] | titles[1])


def _without_gaps(text: str) -> str:
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


@lru_cache(maxsize=4)
def _environment(template_dir: Path | None) -> Environment:
    built_in = FileSystemLoader(BUILT_IN)
    loaders: list[BaseLoader] = [built_in, PrefixLoader({"builtin": built_in})]
    if template_dir is not None:
        loaders.insert(0, FileSystemLoader(template_dir))
    # Use the slower sandbox only for templates that the operator wrote. With it, rendering takes a quarter longer.
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
