"""The Celery tasks. Each task reads from the database what work there is."""

from workers.tasks import echoing, housekeeping, notifying, planting, polling, reporting, scanning

__all__ = ["echoing", "housekeeping", "notifying", "planting", "polling", "reporting", "scanning"]
