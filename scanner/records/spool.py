"""The spool: files in the state folder for what could not be committed while the database was away.

GitHub may not show the content twice, and a process may die meanwhile. Holds digests and places, never a raw token.
What does not fit any more is counted in `REFUSED`, one byte each, so that `r8scan status` shows it.
"""

from __future__ import annotations

import json
import logging
import os
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

FOLDER = "spool"
REFUSED = "refused.count"
MAX_ENTRY_BYTES = 64 * 1024 * 1024
MAX_BYTES = 1024**3
"""Of all entries together: an hour of all public events is about 20 MB here."""
MAX_FILES = 20_000
PARTIAL_SECONDS = 3600
"""A file that is still partial after this time was left by a process that died: writing one takes seconds."""

_log = logging.getLogger(__name__)


class SpoolFull(Exception):
    """The spool has reached its limit or the disk is full: what was to be kept is lost unless the caller keeps it."""


def save(state_dir: Path, kind: str, content: Mapping[str, Any]) -> Path:
    """Write one entry, synced to disk before this returns.

    Raises:
        SpoolFull: it cannot be kept. The spool has counted it.
    """
    folder = state_dir / FOLDER
    data = json.dumps({"kind": kind, "content": content}).encode()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        remove_abandoned(state_dir)
        files, size = _usage(folder)
        if len(data) > MAX_ENTRY_BYTES or files >= MAX_FILES or size + len(data) > MAX_BYTES:
            _count_refused(folder)
            raise SpoolFull(f"the spool in {folder} is full ({files} files, {size} bytes); bring the database back")
        return _write(folder, data)
    except OSError as err:
        _count_refused(folder)
        raise SpoolFull(f"cannot write to the spool in {folder}: {err.strerror}") from err


def count(state_dir: Path) -> int:
    """How many entries wait."""
    folder = state_dir / FOLDER
    return sum(1 for _ in folder.glob("*.json")) if folder.is_dir() else 0


def refused(state_dir: Path) -> int:
    """How many entries were lost because the spool could not take them."""
    try:
        return (state_dir / FOLDER / REFUSED).stat().st_size
    except OSError:
        return 0


def remove_abandoned(state_dir: Path) -> int:
    """Delete partial files that a process left when it died; how many."""
    removed = 0
    for path in (state_dir / FOLDER).glob("*.partial"):
        try:
            if time.time() - path.stat().st_mtime > PARTIAL_SECONDS:
                path.unlink()
                removed += 1
        except FileNotFoundError:
            continue  # its process finished it meanwhile
    return removed


def drain(state_dir: Path, take: Callable[[str, dict[str, Any]], None], *, limit: int = 1000) -> int:
    """Hand every entry to `take`, which commits it, and remove it; the number taken. `take`'s errors stop it.

    An entry may be handed over twice (a crash between commit and removal): taking it must do nothing then.
    """
    folder = state_dir / FOLDER
    taken = 0
    remove_abandoned(state_dir)
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


def _usage(folder: Path) -> tuple[int, int]:
    """How many files there are and how many bytes they hold, whatever their state."""
    files = size = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                size += entry.stat(follow_symlinks=False).st_size
            except FileNotFoundError:
                continue  # it was taken back meanwhile
            files += 1
    return files, size


def _write(folder: Path, data: bytes) -> Path:
    path = folder / f"{uuid.uuid4()}.json"
    partial = path.with_suffix(".partial")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.rename(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
    return path


def _count_refused(folder: Path) -> None:
    try:
        descriptor = os.open(folder / REFUSED, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(descriptor, b".")
        finally:
            os.close(descriptor)
    except OSError as err:
        _log.error("an entry was refused by the spool, and that cannot be counted there: %s", err.strerror)
