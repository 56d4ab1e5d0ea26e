"""The `r8scan serve` command, which runs the web server with all HTTP endpoints and the console."""

from __future__ import annotations

import logging
from typing import Annotated

import typer

from scanner.settings import load_settings
from workers.cli.errors import UserError


def serve(
    host: Annotated[str, typer.Option(show_default="R8SCAN_WEB_HOST", help="Where to listen.")] = "",
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, show_default="R8SCAN_WEB_PORT", help="The port; 0 chooses a free port."),
    ] = None,
) -> None:
    """Run the web server: the console, and endpoints for GitHub's alerts, reports, usage records and found tokens.

    Ctrl-C stops the server. Put a proxy that does TLS in front of the server. The server needs the same settings as
    r8scan run.

    Example: r8scan serve --host 0.0.0.0 --port 8080
    """
    from workers import memory, observing, watchdog
    from workers.cli.default_database import create_default_tables
    from workers.context import current_context
    from workers.health import heartbeats, notifying
    from workers.logs import configure_logging
    from workers.queues import WEB
    from workers.web.app import application
    from workers.web.console import rendering
    from workers.web.server import CannotListen, listen
    from workers.web.server import serve as run

    memory.limit_kept_memory()
    settings = load_settings()
    current_context().check()
    created = create_default_tables(settings)
    current_context().check_version()
    configure_logging(settings)
    if created:
        logging.getLogger("r8scan").warning(created)
    observing.start(settings)
    try:
        listening = listen(host or settings.web_host, settings.web_port if port is None else port)
    except CannotListen as err:
        raise UserError(str(err)) from err
    with listening:
        address, port_used = listening.getsockname()[:2]
        logging.getLogger("r8scan").info("listening on http://%s:%d", address, port_used)
        heartbeats.start(settings, WEB, end=watchdog.end_process)
        notifying.start(current_context(), is_standby=True)
        try:
            app = application(current_context())
            if settings.console:
                rendering.prepare()
            memory.freeze_started_objects()
            run(app, listening, settings.web_trusted_proxies)
        finally:
            heartbeats.stop()
