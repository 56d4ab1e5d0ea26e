"""Optional exports to other monitoring systems: errors to Sentry, traces to an OpenTelemetry collector."""

from __future__ import annotations

from importlib.util import find_spec

from scanner.settings import Settings, SettingsError


def check(settings: Settings) -> None:
    """Check that the libraries for all enabled exports are installed.

    Raises:
        SettingsError: A library is not installed.
    """
    for wanted, name, library, extra in (
        (settings.sentry_dsn, "SENTRY_DSN", "sentry_sdk", "sentry"),
        (settings.traces_url, "TRACES_URL", "opentelemetry", "traces"),
    ):
        if wanted is not None and find_spec(library) is None:
            raise SettingsError(f"R8SCAN_{name} needs a library that is not installed: pip install 'r8scan[{extra}]'")


def start(settings: Settings) -> None:
    """Start all enabled exports in this process. A forked process must call this again."""
    if settings.sentry_dsn is not None:
        from workers.observing import errors

        errors.start(settings)
    if settings.traces_url is not None:
        from workers.observing import traces

        traces.start(settings)
