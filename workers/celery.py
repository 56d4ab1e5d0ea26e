"""The Celery app that `celery -A workers` finds. Its settings are in celeryconfig.py at the root."""

from __future__ import annotations

import logging
import warnings
from typing import Any

from celery import Celery, Task, signals
from celery.exceptions import SecurityWarning

from scanner.child_processes import die_with_parent
from scanner.private_folders import create_files_privately
from scanner.records.database import DatabaseUnavailable, is_unavailable
from scanner.records.leases import LeaseLost
from scanner.records.spool import SpoolFull
from scanner.settings import SettingsError
from workers import broker, context, watchdog
from workers.alive import AliveFile
from workers.logs import configure_logging

# Messages are JSON, are checked and carry no content: the danger of which Celery warns (a worker that runs as root and
# unpickles messages) does not exist here.
warnings.filterwarnings("ignore", category=SecurityWarning)

_log = logging.getLogger(__name__)


class OneLineErrors(Task):  # type: ignore[misc]  # celery has no types
    """What passes by itself is one line in the log, not a traceback: rows and leases bring the work back."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            with watchdog.current().watching(self.name):
                return super().__call__(*args, **kwargs)
        except LeaseLost as err:
            _log.warning("%s: %s", self.name, err)
        except (SpoolFull, DatabaseUnavailable) as err:
            _log.error("%s: %s", self.name, err)
        except Exception as err:
            if not is_unavailable(err):
                raise
            _log.error("%s: the database is away (%s); trying again", self.name, type(err).__name__)
        return None


broker.install()
app = Celery("workers", task_cls=OneLineErrors)
app.config_from_object("celeryconfig")
app.steps["worker"].add(AliveFile)


@signals.setup_logging.connect  # type: ignore[untyped-decorator]  # celery has no types
def _logs(**_: Any) -> None:
    create_files_privately()
    own = context.current()
    configure_logging(own.settings)
    try:
        own.check()
    except SettingsError as err:  # Celery would print a traceback
        raise SystemExit(f"r8scan: {err}") from None


@signals.worker_process_init.connect  # type: ignore[untyped-decorator]  # celery has no types
def _after_fork(**_: Any) -> None:
    die_with_parent()
    context.forget()
    watchdog.current().start()


@signals.worker_ready.connect  # type: ignore[untyped-decorator]  # celery has no types
def _ready(sender: Any = None, **_: Any) -> None:
    """Watch pools that work inside the worker's own process; the children of a prefork pool watch themselves."""
    if not sender.pool.__class__.__module__.endswith(".prefork"):
        watchdog.current().start()
