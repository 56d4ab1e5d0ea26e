"""The ways in which canaries (test tokens) are planted, for example in a public gist, and their settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from scanner.records.states import CanaryWay
from scanner.settings import Settings

SOURCE = "canary"
"""The name of the source of jobs that read a canary."""
SOURCES_OF_FILES = frozenset(["gists", "code_search"])
RETRY_SECONDS = 600
"""A canary that could not be planted is tried again after this time or its interval, whichever is shorter."""


@dataclass(frozen=True, slots=True)
class Patience:
    """The seconds after which an undetected canary (test token) counts as late, and as lost."""

    late: int
    lost: int


PATIENCE: Mapping[CanaryWay, Patience] = {
    # Without a credential, r8scan polls events about every three minutes.
    CanaryWay.TEXTS: Patience(late=600, lost=3600),
    # r8scan reads pushes that are likely to contain a token within two minutes. Retries take longer.
    CanaryWay.PUSHES: Patience(late=300, lost=3600),
    # r8scan reads files of gists within minutes.
    CanaryWay.FILES: Patience(late=300, lost=3600),
    # GitHub updates its search index late, and does not say how late.
    CanaryWay.REPOSITORY: Patience(late=1800, lost=24 * 3600),
    # r8scan lists gists once a minute.
    CanaryWay.GIST: Patience(late=900, lost=24 * 3600),
}
WORDS: Mapping[CanaryWay, str] = {
    CanaryWay.TEXTS: "texts of events",
    CanaryWay.PUSHES: "the queue of pushes",
    CanaryWay.FILES: "the queue of files",
    CanaryWay.REPOSITORY: "the public repository",
    CanaryWay.GIST: "the public gist",
}


def reason_off(settings: Settings, way: CanaryWay) -> str:
    """Return why no canary (test token) is planted in this way, or "" if the way is switched on."""
    if not settings.canaries:
        return "R8SCAN_CANARIES is false"
    if settings.token_store_url and not settings.token_store_canaries:
        return "R8SCAN_TOKEN_STORE_CANARIES is not set: the token store must take canary tokens"
    if way == CanaryWay.TEXTS and "public_events" not in settings.sources:
        return "the source public_events is off"
    if way == CanaryWay.FILES and not SOURCES_OF_FILES.intersection(settings.sources):
        return "the sources gists and code_search are off"
    if way == CanaryWay.REPOSITORY and not settings.canary_repository:
        return "R8SCAN_CANARY_REPOSITORY is not set"
    if way == CanaryWay.GIST and not settings.canary_gist:
        return "R8SCAN_CANARY_GIST is not set"
    return ""


def interval_seconds(settings: Settings, way: CanaryWay) -> int:
    """Return the seconds between two canaries (test tokens) that are planted in this way."""
    is_public = way in (CanaryWay.REPOSITORY, CanaryWay.GIST)
    return settings.canary_public_hours * 3600 if is_public else settings.canary_minutes * 60
