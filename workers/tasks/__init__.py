"""The Celery tasks: each calls one plain function, which finds its work in the database."""

from workers.tasks import housekeeping, notifying, polling, reporting, scanning

__all__ = ["housekeeping", "notifying", "polling", "reporting", "scanning"]
