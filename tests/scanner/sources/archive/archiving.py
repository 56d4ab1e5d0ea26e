"""Helpers for tests of the event archive, for example to make and publish archive files."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import respx

from scanner.detection import Detector
from scanner.github.client import GitHub
from scanner.github.event_files import file_name
from scanner.records.database import Database
from scanner.records.models import ScanJob
from scanner.response.policy import Policy
from scanner.settings import Settings
from scanner.sources.rescan.manual import queue_hours
from scanner.sources.rescan.run import rescan_next
from tests.scanner.sources.knowing import jobs_of, make_due

ARCHIVE = "https://archive.example"
HOUR = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=3)


def push(number: int) -> dict[str, Any]:
    payload = {"ref": "refs/heads/main", "head": f"{number:040x}", "before": "b" * 40}
    return event(number, "PushEvent", payload)


def event(number: int, kind: str, payload: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": str(number),
        "type": kind,
        "actor": {"login": "ana"},
        "repo": {"id": 7, "name": "ana/app"},
        "payload": payload,
        "created_at": HOUR.isoformat(),
    }


def packed(*events: Any) -> bytes:
    return gzip.compress(b"".join(json.dumps(one).encode() + b"\n" for one in events))


class Archive:
    def __init__(self, database: Database, client: GitHub, settings: Settings, router: respx.Router) -> None:
        self.database, self.client, self.settings, self.router = database, client, settings, router

    def publish(self, hour: datetime, content: bytes) -> respx.Route:
        return self.router.get(f"{ARCHIVE}/{file_name(hour)}").mock(
            side_effect=lambda _: httpx.Response(200, stream=httpx.ByteStream(content))
        )

    def queue(self, *hours: datetime) -> list[int]:
        with self.database.write() as session:
            return queue_hours(session, hours)

    def work(self) -> bool:
        make_due(self.database)
        return rescan_next(self.database, self.client, Detector(), Policy(), settings=self.settings) is not None

    def hour(self) -> ScanJob:
        return jobs_of(self.database, "archive_hour")[-1]

    def pushes(self) -> list[str]:
        return [one["head"] for job in jobs_of(self.database, "pushes") for one in job.target["pushes"]]
