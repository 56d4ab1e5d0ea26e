"""Plants canaries (test tokens) in the queue of pushes."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.orm import Session

from scanner.detection import Detector
from scanner.detection.canaries import packed
from scanner.detection.git.packs import PackLimits
from scanner.github.errors import Unavailable
from scanner.github.git_protocol import ReceivedPack
from scanner.records import jobs
from scanner.records.database import Database
from scanner.records.states import JobKind
from scanner.response.policy import Policy
from scanner.sources.canaries import ways
from scanner.sources.canaries.making import make
from scanner.sources.canaries.texts import REPOSITORY
from scanner.sources.pushes.objects import read_pack
from scanner.sources.pushes.priorities import PRIORITIES, Likelihood
from scanner.sources.pushes.push import Push, PushReading, ScanContext
from scanner.tokens.protocol import StoreUnavailable

BAND: Likelihood = "likely"
"""A canary is queued with the pushes of this likelihood."""


def enqueue(session: Session, canary_id: int, planted_at: datetime) -> None:
    """Queue the job that will read the canary (test token), in the caller's transaction."""
    head = f"{canary_id:040x}"
    push = Push(REPOSITORY, None, "0" * 40, head, "", "", planted_at, "canary", likelihood=BAND)
    target = {"pushes": [push.to_json()]}
    jobs.enqueue(session, JobKind.PUSHES, target, source=ways.SOURCE, priority=PRIORITIES[BAND], visible_at=planted_at)


def read(database: Database, policy: Policy, push: Push, detector: Detector, limits: PackLimits) -> PushReading:
    """Make the token of a canary, and scan it in a git pack as if a git server had sent it.

    Raises:
        Unavailable: The token store refuses the token. The job is retried.
    """
    reading = PushReading()
    try:
        content = make(database, policy, detector.digester, int(push.head, 16))
    except StoreUnavailable as err:
        raise Unavailable("canary_not_registered", str(err)) from err
    if content is not None:
        pack = packed(content.text)
        received = ReceivedPack(pack.content, "sha1")
        reading.add(read_pack(received, push, "", ScanContext(detector), limits, wants=[pack.head]))
    return reading
