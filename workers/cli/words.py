"""Converts database values to words for people."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from scanner.records.models import Exposure, Notification
from scanner.records.states import Cause, Channel

CAUSES: Mapping[Cause, str] = {
    Cause.PUBLIC_REPOSITORY: "found in public",
    Cause.COMPROMISE_SIGNS: "reported, or a usage rule matched",
    Cause.OPERATOR: "an operator disabled it",
    Cause.CANARY: "a canary, with which r8scan tests itself",
}
RECIPIENTS: Mapping[Channel, str] = {
    Channel.EMAIL: "owners",
    Channel.OPERATOR: "operator",
    Channel.STREAM: "gateways, by the Redis stream",
    Channel.WEBHOOK: "gateways, by webhook",
}
"""Words for the people or systems that receive a channel's messages."""
GISTS = ("gist", "gist_comment")
_GIST = re.compile(r"[0-9a-f]{20,64}")


def place(one: Exposure) -> str:
    """Return where a token was found: the repository's name, the gist, or the kind of place."""
    if one.repository:
        return one.repository
    if one.kind not in GISTS:
        return one.kind.replace("_", " ")
    parts = urlsplit(one.url).path.strip("/").split("/")
    number = next((position for position, part in enumerate(parts[:2]) if _GIST.fullmatch(part)), None)
    return "gist" if number is None else f"gist {'/'.join(parts[: number + 1])}"


def amount(name: str, value: int) -> str:
    """Return a number with its unit, for example "2 api tokens" for the name "api_tokens"."""
    words = name.replace("_", " ")
    if value == 1:
        if words.endswith("ies"):
            words = f"{words[:-3]}y"
        else:
            words = words.removesuffix("es") if words.endswith(("ches", "shes")) else words.removesuffix("s")
    return f"{value:,} {words}"


def recipient(one: Notification) -> str:
    """Return a message's recipient, such as "owner, ana@example.com"."""
    if one.channel not in (Channel.EMAIL, Channel.OPERATOR):
        return RECIPIENTS[one.channel]
    role = "operator" if one.channel == Channel.OPERATOR else "owner"
    return f"{role}, {one.recipient or 'whose address is not known'}"
