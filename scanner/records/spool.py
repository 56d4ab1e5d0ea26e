"""What could not be committed because the database was away: kept in files of the state folder until it is back.

GitHub may not show the content twice, and a process may die meanwhile. Holds digests and places, never a raw token.
"""

from __future__ import annotations

import json
import logging
import os
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

FOLDER = "spool"
LARGEST_BYTES = 64 * 1024 * 1024
MOST_FILES = 20_000

_log = logging.getLogger(__name__)


class SpoolFull(Exception):
    """The spool has reached its limit or the disk is full: what was to be kept is lost unless the caller keeps it."""


def save(state_dir: Path, kind: str, content: Mapping[str, Any]) -> Path:
    """Write one entry, synced to disk before this returns. SpoolFull when it cannot be kept."""
    folder = state_dir / FOLDER
    data = json.dumps({"kind": kind, "content": content}).encode()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if len(data) > LARGEST_BYTES or sum(1 for _ in folder.iterdir()) >= MOST_FILES:
            raise SpoolFull(f"the spool in {folder} is full; bring the database back")
        path = folder / f"{uuid.uuid4()}.json"
        partial = path.with_suffix(".partial")
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.rename(path)
    except OSError as err:
        raise SpoolFull(f"cannot write to the spool in {folder}: {err.strerror}") from err
    return path


def count(state_dir: Path) -> int:
    """How many entries wait."""
    folder = state_dir / FOLDER
    return sum(1 for _ in folder.glob("*.json")) if folder.is_dir() else 0


def drain(state_dir: Path, take: Callable[[str, dict[str, Any]], None], *, limit: int = 1000) -> int:
    """Hand every entry to `take`, which commits it, and remove it; the number taken. `take`'s errors stop it.

    An entry may be handed over twice (a crash between commit and removal): taking it must do nothing then.
    """
    folder = state_dir / FOLDER
    taken = 0
    for path in sorted(folder.glob("*.json"))[:limit] if folder.is_dir() else ():
        try:
            entry = json.loads(path.read_bytes())
            kind, content = str(entry["kind"]), dict(entry["content"])
        except FileNotFoundError:
            continue  # another process was faster
        except (ValueError, KeyError, TypeError):
            _log.error("unreadable spool entry set aside", extra={"file": path.name})
            path.rename(path.with_suffix(".unreadable"))
            continue
        take(kind, content)
        path.unlink(missing_ok=True)
        taken += 1
    return taken
