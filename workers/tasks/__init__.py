"""The Celery tasks. Each calls one plain function, which finds its work in the database."""

from workers.tasks import echoing, housekeeping, notifying, planting, polling, reporting, scanning

__all__ = ["echoing", "housekeeping", "notifying", "planting", "polling", "reporting", "scanning"]
