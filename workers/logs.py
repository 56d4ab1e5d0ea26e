"""Writes the log: one line per event, for people or as JSON, with every token redacted."""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

from scanner.absent_modules import absent
from scanner.detection import redact
from scanner.settings import Settings
from workers import outage

# Hide rich during the import, because structlog would load it, which takes 4 MB.
with absent("rich"):
    import structlog
    from structlog.typing import EventDict, ExcInfo, Processor, WrappedLogger

MAX_VALUE_CHARACTERS = 2000
MAX_TRACEBACK_CHARACTERS = 16_000
MAX_LINE_CHARACTERS = 64_000
MAX_REDACTED_CHARACTERS = 64 * 1024
"""The maximum number of characters of a value that are searched for tokens. Further characters are dropped."""
MAX_TOKEN_CHARACTERS = 4096
"""The number of characters to drop at the end of a cut value, because they may be a part of a token."""
MAX_ITEMS = 50
MAX_DEPTH = 4
MAX_INTEGER_BITS = 256
"""Integers with more bits than this are not logged, because Python refuses to print more than 4,300 digits."""
_LIBRARIES = (
    "httpx",
    "httpcore",
    "alembic",
    "celery",
    "kombu",
    "amqp",
    "uvicorn",
    "asyncio",
    "opentelemetry",
    "urllib3",
)
_CONNECTING = ("celery.worker.consumer.consumer", "celery.beat", "workers.beat")
"""The loggers to which Celery reports attempts to reach Redis."""

_log = logging.getLogger(__name__)


def configure_logging(settings: Settings) -> None:
    """Send all log records and uncaught exceptions to standard error, with tokens redacted."""
    renderer: Processor = (
        structlog.processors.JSONRenderer()
        if settings.log_format == "json"
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    )
    processors = [structlog.stdlib.ProcessorFormatter.remove_processors_meta, _bounded, _tracebacks, renderer]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_RedactingFormatter(foreign_pre_chain=_pre_chain(), processors=processors))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())
    for name in _LIBRARIES:
        logging.getLogger(name).setLevel(logging.DEBUG if settings.log_level == "debug" else logging.WARNING)
    for name in _CONNECTING:
        logging.getLogger(name).addFilter(_is_no_broker_error)
    logging.captureWarnings(capture=True)
    # Python's own hooks would print the traceback without redaction.
    sys.excepthook = _log_uncaught
    sys.unraisablehook = _log_unraisable
    threading.excepthook = _log_uncaught_in_thread


def last_line(message: str) -> str:
    """Return the last log line of a process that cannot start because of an error."""
    # Read the log format from the environment only, because the settings may be wrong.
    text = redact(f"r8scan: {message}")
    if os.environ.get("R8SCAN_LOG_FORMAT", "").lower() != "json":
        return text
    now = datetime.now(UTC).isoformat()
    return json.dumps({"event": text, "level": "critical", "logger": "r8scan", "timestamp": now})


def _is_no_broker_error(record: logging.LogRecord) -> bool:
    """Return False for Celery's log records about failed attempts to reach Redis."""
    # Failed attempts to reach Redis are logged by `outage.broker`, with fewer lines.
    text = record.msg if isinstance(record.msg, str) else ""
    first = record.args[0] if isinstance(record.args, tuple) and record.args else ""
    is_about_broker = "Cannot connect to" in text or "Connection error" in text or "Connection to broker" in str(first)
    if not is_about_broker or record.levelno < logging.WARNING:
        return True
    errors = [one for one in record.args or () if isinstance(one, BaseException)]
    outage.broker.failed(errors[0] if errors else ConnectionError())
    return False


def _pre_chain() -> Sequence[Processor]:
    return [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]


def _log_uncaught(kind: type[BaseException], err: BaseException, traceback: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    _log.critical("the process ends: an exception was not caught", exc_info=(kind, err, traceback))


def _log_uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is not None and not isinstance(args.exc_value, SystemExit):
        found = (args.exc_type, args.exc_value, args.exc_traceback)
        _log.critical("a thread ends: an exception was not caught", exc_info=found)


def _log_unraisable(found: sys.UnraisableHookArgs) -> None:
    if found.exc_value is not None:
        about = (found.exc_type, found.exc_value, found.exc_traceback)
        _log.error(found.err_msg or "an exception was ignored", exc_info=about)


def _tracebacks(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Convert a log event's exception and stack to short text without tokens."""
    found: ExcInfo | None = event.pop("exc_info", None)
    if found and found[1] is not None:
        event["exception"] = _text(structlog.processors.format_exc_info(_, __, {"exc_info": found})["exception"])
    if "stack_info" in event:
        event["stack"] = _text(str(event.pop("stack_info")))
    return event


def _text(value: str) -> str:
    return clean_text(value, MAX_TRACEBACK_CHARACTERS)


def _bounded(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Redact and shorten each value of a log event. Leave tracebacks as they are."""
    later = ("exc_info", "stack_info")
    return {key: value if key in later else clean_value(value) for key, value in event.items()}


def clean_value(value: Any, depth: int = 0) -> Any:
    """Return the value as JSON of limited size and depth, without tokens and control characters."""
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return value if value.bit_length() <= MAX_INTEGER_BITS else "an integer too long to print"
    if isinstance(value, str):
        return clean_text(value, MAX_VALUE_CHARACTERS)
    if isinstance(value, bytes | bytearray | memoryview):
        return _clean_bytes(value)
    if depth < MAX_DEPTH and isinstance(value, dict):
        items = list(value.items())[:MAX_ITEMS]
        return {clean_text(str(key), MAX_VALUE_CHARACTERS): clean_value(item, depth + 1) for key, item in items}
    if depth < MAX_DEPTH and isinstance(value, list | tuple | set | frozenset):
        return [clean_value(item, depth + 1) for item in list(value)[:MAX_ITEMS]]
    if isinstance(value, dict | list | tuple | set | frozenset):
        return f"{type(value).__name__} of {len(value)} items"
    return clean_text(_representation(value), MAX_VALUE_CHARACTERS)


def _representation(value: object) -> str:
    try:
        return str(value)
    except Exception as err:  # noqa: BLE001 - logging must not fail because of a value
        return f"{type(value).__name__} that cannot be shown ({type(err).__name__})"


def _clean_bytes(value: bytes | bytearray | memoryview) -> str:
    """Return the bytes as text without tokens, one character for each byte."""
    # Do not use `repr`: with the zero bytes of UTF-16 written as \x00, a token would not be recognized and redacted.
    some = bytes(value[:MAX_REDACTED_CHARACTERS])
    text = some.decode("latin-1")
    return clean_text(text + ("\0" if len(value) > len(some) else ""), MAX_VALUE_CHARACTERS)


def clean_text(value: str, longest: int) -> str:
    """Return at most `longest` characters of the text, without tokens and control characters."""
    some = value[:MAX_REDACTED_CHARACTERS]
    # Redact first: a token that was cut in half would not be recognized.
    clean = redact(some)
    if len(some) < len(value):
        clean = clean[:-MAX_TOKEN_CHARACTERS]
    is_cut = len(some) < len(value) or len(clean) > longest
    clean = clean[: longest - 1] + "…" if is_cut else clean
    return "".join(char if char.isprintable() or char in "\n\t" else "�" for char in clean)


class _RedactingFormatter(structlog.stdlib.ProcessorFormatter):
    """A log formatter that redacts the whole line, because several values may form a token."""

    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record)
        if len(line) <= MAX_LINE_CHARACTERS:
            return redact(line)
        return redact(line[:MAX_REDACTED_CHARACTERS])[:-MAX_TOKEN_CHARACTERS] + "…"
