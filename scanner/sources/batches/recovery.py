"""Moves token candidates and events from files into the database.

They are saved in files while the database is unavailable.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from scanner.records import spool
from scanner.records.database import Database
from scanner.records.states import SightingState
from scanner.response import sightings
from scanner.response.places import candidate_from_json
from scanner.sources.files import scan as remote_files
from scanner.sources.files.scan import RemoteFile
from scanner.sources.pushes.push import Push
from scanner.sources.timeline.event_jobs import enqueue_found
from scanner.sources.timeline.events import Found
from scanner.sources.timeline.poll import TEXT_PRIORITY


def take_back(database: Database, state_dir: Path) -> int:
    """Move all token candidates and events from the files in `state_dir` into the database. Return their number."""

    def take(kind: str, content: dict[str, Any]) -> None:
        del kind  # the content's own keys show what it contains
        candidates = [candidate_from_json(value) for value in content.get("candidates", ())]
        found = Found(pushes=[Push.from_json(value) for value in content.get("pushes", ())])
        for name, repository_id, at in content.get("repositories", ()):
            found.repositories.append((name, repository_id, datetime.fromisoformat(at) if at else None))
        with database.write() as session:
            sightings.record(session, candidates, source=content["source"], state=SightingState.UNCHECKED)
            enqueue_found(session, found, source=content["source"])
            files = [RemoteFile.from_json(value) for value in content.get("files", ())]
            remote_files.enqueue(session, files, source=content["source"], priority=TEXT_PRIORITY)

    return spool.drain(state_dir, take)
