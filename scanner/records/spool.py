"""The spool: files that keep candidates and events while the database is unavailable. They contain no raw token."""

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
"""The maximum size of all entries of the spool together. All public events of one hour take about 20 MB."""
MAX_FILES = 20_000
PARTIAL_SECONDS = 3600
"""A partial file older than this is left over from a process that died."""

_log = logging.getLogger(__name__)


class SpoolFull(Exception):
    """Raised if the spool cannot take an entry, because its limit is reached or the disk is full."""


def save(state_dir: Path, kind: str, content: Mapping[str, Any]) -> Path:
    """Write one entry to a file and sync it to disk.

    Raises:
        SpoolFull: The entry could not be written, and was counted as refused.
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
    """Return the number of entries that wait to be stored in the database."""
    folder = state_dir / FOLDER
    return sum(1 for _ in folder.glob("*.json")) if folder.is_dir() else 0


def refused(state_dir: Path) -> int:
    """Return how many entries could not be written, because the limit was reached or the disk was full."""
    try:
        return (state_dir / FOLDER / REFUSED).stat().st_size
    except OSError:
        return 0


def remove_abandoned(state_dir: Path) -> int:
    """Delete partial files left by processes that died. Return the number of deleted files."""
    removed = 0
    for path in (state_dir / FOLDER).glob("*.partial"):
        try:
            if time.time() - path.stat().st_mtime > PARTIAL_SECONDS:
                path.unlink()
                removed += 1
        except FileNotFoundError:
            continue  # its process has just finished the file and renamed it
    return removed


def drain(state_dir: Path, take: Callable[[str, dict[str, Any]], None], *, limit: int = 1000) -> int:
    """Pass each entry to `take`, which stores it in the database, and delete its file. Return the number of entries.

    After a crash, `take` may receive the same entry again.
    """
    folder = state_dir / FOLDER
    taken = 0
    remove_abandoned(state_dir)
    for path in sorted(folder.glob("*.json"))[:limit] if folder.is_dir() else ():
        try:
            entry = json.loads(path.read_bytes())
            kind, content = str(entry["kind"]), dict(entry["content"])
        except FileNotFoundError:
            continue  # another process has committed it
        except (ValueError, KeyError, TypeError):
            _log.error("spool entry is not readable and was renamed to .unreadable", extra={"file": path.name})
            path.rename(path.with_suffix(".unreadable"))
            continue
        take(kind, content)
        path.unlink(missing_ok=True)
        taken += 1
    return taken


def _usage(folder: Path) -> tuple[int, int]:
    """Return the number of files in the folder and their total bytes."""
    files = size = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                size += entry.stat(follow_symlinks=False).st_size
            except FileNotFoundError:
                continue  # another process has just committed and deleted it
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
        _log.error("the spool refused an entry and could not count it: %s", err.strerror)
