"""Logs: one line an event, for people or as JSON, with every token taken out of every value."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from scanner.detection import redact
from scanner.settings import Settings

LONGEST_VALUE = 2000
_QUIET = ("httpx", "httpcore", "alembic", "celery.beat", "celery.worker.strategy", "celery.app.trace", "kombu", "amqp")


def configure_logging(settings: Settings) -> None:
    """Send the records of every library through one redacting formatter to standard error."""
    renderer: Processor = (
        structlog.processors.JSONRenderer()
        if settings.log_format == "json"
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    )
    last: list[Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if settings.log_format == "json":
        last.append(structlog.processors.format_exc_info)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_RedactingFormatter(foreign_pre_chain=_pre_chain(), processors=[*last, renderer]))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


def _pre_chain() -> Sequence[Processor]:
    return [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _bounded,
    ]


def _bounded(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Hostile values may be megabytes long or hold control characters that repaint a terminal."""
    return {key: _clean(value) if isinstance(value, str) else value for key, value in event.items()}


def _clean(value: str) -> str:
    value = value if len(value) <= LONGEST_VALUE else value[: LONGEST_VALUE - 1] + "…"
    return "".join(char if char.isprintable() or char in "\n\t" else "�" for char in value)


class _RedactingFormatter(structlog.stdlib.ProcessorFormatter):
    """The last line of defence: whatever a line was made of, tracebacks included, no token leaves in it."""

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))
