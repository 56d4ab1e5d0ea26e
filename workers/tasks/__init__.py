"""The Celery tasks: thin shells over plain functions, each saying "look now" and finding its work in the database."""

from workers.tasks import housekeeping, notifying, polling, reporting, scanning

__all__ = ["housekeeping", "notifying", "polling", "reporting", "scanning"]
