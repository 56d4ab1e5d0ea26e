"""The Celery tasks. Each task reads from the database what work there is."""

SCANNING = ("workers.tasks.echoing", "workers.tasks.scanning")
"""The modules with the tasks of a worker that only scans."""
ALL = (
    *SCANNING,
    "workers.tasks.housekeeping",
    "workers.tasks.notifying",
    "workers.tasks.planting",
    "workers.tasks.polling",
    "workers.tasks.reporting",
)
"""All modules with tasks."""
