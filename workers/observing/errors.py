"""Sends logged errors to Sentry, with tokens redacted.

Sentry receives the message, the exceptions, and the names of functions and files.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, cast

import sentry_sdk
from sentry_sdk.integrations.logging import LoggingIntegration

from scanner import __version__
from scanner.settings import Settings
from workers.logs import clean_text

KEPT = frozenset(
    {
        *("event_id", "timestamp", "platform", "level", "logger", "logentry", "message", "exception", "threads"),
        *("release", "environment", "server_name", "sdk", "tags", "extra", "type"),
    }
)
"""The parts of a Sentry event that may be sent."""
MAX_CHARACTERS = 8_000
MAX_ITEMS = 200
MAX_DEPTH = 12


def start(settings: Settings) -> None:
    """Send log records of the level `error` and above to Sentry."""
    assert settings.sentry_dsn is not None  # noqa: S101 - the caller has checked this
    sentry_sdk.init(
        dsn=settings.sentry_dsn.get_secret_value(),
        release=f"r8scan@{__version__}",
        include_local_variables=False,
        include_source_context=False,
        send_default_pii=False,
        max_request_body_size="never",
        max_breadcrumbs=0,
        auto_session_tracking=False,
        default_integrations=False,
        auto_enabling_integrations=False,
        integrations=[LoggingIntegration(level=None, event_level=logging.ERROR)],
        before_send=lambda event, _: cast(Any, scrubbed(event)),
    )


def scrubbed(event: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parts of a Sentry event that may be sent, with tokens redacted and texts shortened."""
    return {name: _clean(value, 0) for name, value in event.items() if name in KEPT}


def _clean(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return clean_text(value, MAX_CHARACTERS)
    if value is None or isinstance(value, bool | int | float):
        return value
    if depth >= MAX_DEPTH:
        return "…"
    if isinstance(value, Mapping):
        items = list(value.items())[:MAX_ITEMS]
        return {clean_text(str(key), MAX_CHARACTERS): _clean(one, depth + 1) for key, one in items if key != "vars"}
    if isinstance(value, list | tuple):
        return [_clean(one, depth + 1) for one in value[:MAX_ITEMS]]
    return _clean(str(value), depth)
