"""Plants canaries (test tokens) on a schedule, and closes those that were found."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Protocol

from sqlalchemy import select
from sqlalchemy.orm import Session

from scanner.detection import Detector, Place
from scanner.detection.canaries import FILE_NAME
from scanner.github.client import GitHub
from scanner.github.contents import write_file, write_gist_file
from scanner.github.errors import GitHubError
from scanner.records import audit, canaries
from scanner.records.canary_models import Canary
from scanner.records.database import Database
from scanner.records.models import db_now
from scanner.records.states import CanaryState, CanaryWay
from scanner.response.policy import Policy
from scanner.settings import Settings
from scanner.sources.canaries import files, pushes, ways
from scanner.sources.canaries.making import make
from scanner.sources.files import scan as remote_files
from scanner.sources.files.scan import RemoteFile
from scanner.tokens.protocol import StoreUnavailable

SLOT_SECONDS = 60
"""At most one canary of each kind is planted in a period of this length."""

FILE_PRIORITY = 100
"""The priority of canaries in the queue of files. Files of gists have the same priority."""
MAX_FILE_BYTES = 4096

_log = logging.getLogger(__name__)


class PlantingContext(Protocol):
    """The objects that are needed to plant canaries (test tokens)."""

    @property
    def settings(self) -> Settings: ...
    @property
    def database(self) -> Database: ...
    @property
    def policy(self) -> Policy: ...
    @property
    def detector(self) -> Detector: ...
    @property
    def github_of_canaries(self) -> GitHub:
        """Return the GitHub client that may write to the canaries' repository and gist."""


def settle(database: Database, policy: Policy) -> int:
    """Close the canaries (test tokens) to which r8scan has responded. Return their number."""
    with database.write() as session:
        ended = canaries.end(session)
        policy.access.forget_canaries(session, ended)
    return len(ended)


def plant_due(context: PlantingContext) -> list[CanaryWay]:
    """Plant a canary (test token) in each way that is due, for example in a public gist. Return these ways."""
    return [way for way in CanaryWay if not ways.reason_off(context.settings, way) and _plant_if_due(context, way)]


def plant(context: PlantingContext, way: CanaryWay) -> int | None:
    """Plant a canary (test token) now, for an operator.

    Return its id, or None if another call planted a canary in this second.
    """
    with context.database.read() as session:
        now: datetime = session.execute(select(db_now())).scalar_one()
    return _plant(context, way, -int(now.timestamp()))


def _plant_if_due(context: PlantingContext, way: CanaryWay) -> bool:
    with context.database.read() as session:
        now: datetime = session.execute(select(db_now())).scalar_one()
        newest = canaries.newest(session, way)
    if newest is not None and (now - newest.planted_at).total_seconds() < _wait_after(context.settings, newest):
        return False
    return _plant(context, way, int(now.timestamp()) // SLOT_SECONDS) is not None


def _wait_after(settings: Settings, newest: Canary) -> float:
    """Return the seconds between the newest canary and the next one of the same kind."""
    interval = ways.interval_seconds(settings, newest.way)
    if newest.state == CanaryState.FAILED:
        return min(interval, ways.RETRY_SECONDS)
    # While the newest canary (test token) is not found, another one would show nothing new.
    return max(interval, ways.PATIENCE[newest.way].lost) if newest.state == CanaryState.PLANTED else interval


def _plant(context: PlantingContext, way: CanaryWay, slot: int) -> int | None:
    with context.database.write() as session:
        canary_id = canaries.plant(session, way, slot)
        if canary_id is None:
            return None
        if way == CanaryWay.PUSHES:
            pushes.enqueue(session, canary_id, session.get_one(Canary, canary_id).planted_at)
        elif way == CanaryWay.FILES:
            _enqueue_file(session, canary_id, session.get_one(Canary, canary_id).planted_at)
    if way in (CanaryWay.REPOSITORY, CanaryWay.GIST):
        _publish(context, way, canary_id)
    return canary_id


def _enqueue_file(session: Session, canary_id: int, planted_at: datetime) -> None:
    """Queue a file that contains the canary (test token), in the caller's transaction."""
    file = RemoteFile(files.address(canary_id), Place("gist", published_at=planted_at), limit=MAX_FILE_BYTES)
    remote_files.enqueue(session, [file], source=ways.SOURCE, priority=FILE_PRIORITY)


def _publish(context: PlantingContext, way: CanaryWay, canary_id: int) -> None:
    """Write the token of a canary into the operator's public repository or gist."""
    settings, github = context.settings, context.github_of_canaries
    place, error = "", None
    try:
        content = make(context.database, context.policy, context.detector.digester, canary_id)
        if content is None:
            return
        if way == CanaryWay.REPOSITORY:
            place = write_file(github, str(settings.canary_repository), FILE_NAME, content.text)
        else:
            place = write_gist_file(github, str(settings.canary_gist), FILE_NAME, content.text)
    except (GitHubError, StoreUnavailable) as err:
        _log.error("a canary could not be planted in %s: %s", ways.WORDS[way], err)
        error = str(err)
    with context.database.write() as session:
        canary = session.get_one(Canary, canary_id, with_for_update=True)
        canary.place = place
        if error is not None and canary.state == CanaryState.PLANTED:
            if canary.digest is not None:
                context.policy.access.forget_canaries(session, [canary.digest])
            canary.state, canary.error, canary.ended_at = CanaryState.FAILED, error, db_now()
        else:
            evidence = {"canary": canary_id, "digest": canary.digest, "place": place}
            audit.record(session, "canary_planted", evidence)
