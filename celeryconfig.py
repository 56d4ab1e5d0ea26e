"""The settings of Celery.

The database records the work that is due. A Celery message contains no work, but only starts a task that looks for due
work in the database. Messages may therefore be lost, repeated or late, and tasks return no results.
"""

from __future__ import annotations

from kombu import Queue

from workers.celery_settings import own_broker_url as _broker_url
from workers.queues import QUEUES as _QUEUES
from workers.tasks import ALL as _TASKS

broker_url = _broker_url()
broker_connection_retry_on_startup = True
broker_connection_max_retries = None
broker_transport_options = {
    # Redis delivers a message again if it is not acknowledged in this time. No task takes so long.
    "visibility_timeout": 12 * 3600,
    "queue_order_strategy": "priority",
    # If Redis is unavailable, do not let the sender wait. The message is lost, but `r8scan.sweep` later finds the due
    # work.
    "max_retries": 1,
    "interval_start": 0,
    "interval_step": 0.1,
    "interval_max": 0.1,
    "socket_connect_timeout": 5,
    "socket_timeout": 30,
    "socket_keepalive": True,
    "health_check_interval": 15,
}

task_ignore_result = True
task_store_errors_even_if_ignored = False
# Acknowledge a message only when its task has ended. A busy worker then leaves the next message in the queue, where an
# idle worker can fetch it at once. If a worker dies, its messages are not delivered again (see workers/broker.py).
task_acks_late = True
task_serializer = "json"
accept_content = ["json"]
task_publish_retry = False
worker_prefetch_multiplier = 1
worker_hijack_root_logger = False
worker_send_task_events = False
# If remote control were enabled, anybody who can write to Redis could stop workers, revoke tasks or change queues.
worker_enable_remote_control = False
worker_cancel_long_running_tasks_on_connection_loss = False
# These two limits apply only to prefork pools. For pools of threads, see workers/recycling.py.
worker_max_tasks_per_child = 5000
worker_max_memory_per_child = 1024 * 1024  # in kB

# The queue `polling` is only for polls, because a late poll loses events, but other work can wait. A worker that
# consumes this queue should consume no other queue. Otherwise, slow mails, look-ups or scans could block its threads.
task_queues = [Queue(name) for name in _QUEUES]
task_default_queue = "scanning"
task_routes = {
    "r8scan.poll_due": {"queue": "polling"},
    "r8scan.poll": {"queue": "polling"},
    "r8scan.sweep": {"queue": "responding"},
    "r8scan.look_up": {"queue": "responding"},
    "r8scan.settle_reports": {"queue": "responding"},
    "r8scan.plant_canaries": {"queue": "responding"},
    # Announcements tell API gateways which tokens are disabled. They are more urgent than mails, so they do not share
    # the queue of the mails.
    "r8scan.announce": {"queue": "responding"},
    "r8scan.tidy": {"queue": "notifying"},
    "r8scan.deliver": {"queue": "notifying"},
    "r8scan.scan": {"queue": "scanning"},
    "r8scan.fetch": {"queue": "scanning"},
    "r8scan.rescan": {"queue": "rescans"},
    "r8scan.scan_slow": {"queue": "rescans"},
    **{f"r8scan.echo_{queue}": {"queue": queue} for queue in _QUEUES},
}
imports = _TASKS

beat_scheduler = "workers.beat:MonotonicScheduler"
beat_max_loop_interval = 1
# These messages have no expiry time, because a worker whose clock is ahead would discard all of them. They cannot fill
# Redis while no worker runs, because the length of each queue is limited (see workers/broker.py).
beat_schedule = {
    "poll": {"task": "r8scan.poll_due", "schedule": 1.0},
    "sweep": {"task": "r8scan.sweep", "schedule": 2.0},
    "plant-canaries": {"task": "r8scan.plant_canaries", "schedule": 15.0},
    "tidy": {"task": "r8scan.tidy", "schedule": 600.0},
}
