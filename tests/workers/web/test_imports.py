"""Tests that the idle web server has imported only what it uses, because it shares no memory with other processes."""

from __future__ import annotations

import subprocess
import sys

UNUSED = (
    "alembic",
    "celery",
    "kombu",
    "notifications.email.render",
    "redis",
    "scanner.detection.detector",
    "scanner.detection.engine",
    "scanner.isolation",
)
PROGRAM = f"""
import sys
from workers.health import notifying
from workers.web import app, server
from workers.web.console import rendering
rendering.prepare()
print("imported:", *[name for name in {UNUSED!r} if sys.modules.get(name)])
"""


def test_the_idle_web_server_imports_no_detector_no_celery_and_no_templates_of_mails() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "imported:\n", done
