"""Helpers for tests that read the content of one push, without a database."""

from __future__ import annotations

from collections.abc import Callable

from scanner.detection import Detector, sha256_digest
from scanner.detection.git.packs import PackLimits
from scanner.github.client import GitHub
from scanner.sources.pushes.push import Push, PushReading
from scanner.sources.pushes.reading import read_push
from workers.sandbox.workplace import Workplace

LIMITS = PackLimits()
Make = Callable[..., Workplace]
Token = Callable[[], str]


def pushed(before: str, head: str, **changes: object) -> Push:
    values: dict[str, object] = {
        "repository": "ana/app",
        "repository_id": 1001,
        "before": before,
        "head": head,
        "ref": "refs/heads/main",
        "ref_type": "",
        "published_at": None,
        "kind": "push",
    }
    return Push(**(values | changes))  # type: ignore[arg-type]  # values of different types


def created(ref: str, ref_type: str = "branch") -> Push:
    return pushed("0" * 40, "", ref=ref, ref_type=ref_type, kind="create")


def read(client: GitHub, push: Push, limits: PackLimits = LIMITS, **options: object) -> PushReading:
    return read_push(client, push, Detector(), limits=limits, **options)  # type: ignore[arg-type]


def digests(reading: PushReading) -> set[str]:
    return {candidate.digest for candidate in reading.candidates}


def digest(token: str) -> str:
    return sha256_digest(token.encode())
