"""Reads what `r8scan scan` is pointed at: walks folders, opens files, finds repositories. Prints nothing."""

from __future__ import annotations

import itertools
import os
import stat
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, Protocol

from scanner.detection import Candidate, Detector, Place, redact
from scanner.detection.git_processes import GitError, environment
from scanner.detection.history import scan_history
from scanner.detection.pieces import PIECE, scan_pieces
from scanner.isolation import shared_pool
from scanner.settings import load_settings
from workers.cli.errors import UserError

FILES_A_BATCH = 512
_BUNDLE = (b"# v2 git bundle\n", b"# v3 git bundle\n")


class Progress(Protocol):
    """Shows how far it is; `advance` may be called from any thread."""

    def begin(self, what: str, total: int | None) -> None: ...
    def advance(self, objects: int, size: int, hits: int) -> None: ...


@dataclass(slots=True)
class ScanRun:
    """What was found and what was read. `unread` counts by reason; `notes` are things to know that are no failure."""

    candidates: list[Candidate] = field(default_factory=list)
    unread: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    files: int = 0
    objects: int = 0
    bytes: int = 0


def scan_all(
    paths: Sequence[str],
    *,
    history: bool,
    jobs: int,
    progress: Callable[[], AbstractContextManager[Progress]],
) -> ScanRun:
    """Scan every path. UserError for a path that does not exist; what cannot be read below one is counted."""
    detector = Detector(load_settings(read_dotenv=False, use_state=False).digester(), reader=shared_pool())
    run = ScanRun()
    for path in paths:
        if path != "-" and not os.path.lexists(path):
            raise UserError(f"there is no {path}")
    with progress() as shown:
        for path in paths:
            if path == "-":
                shown.begin("standard input", None)
                _take(run, shown, *_scan_stream(detector, sys.stdin.buffer, "-"))
            else:
                _scan_path(Path(path), detector, run, shown, history=history, jobs=jobs)
    run.unread = +run.unread
    return run


def _scan_path(path: Path, detector: Detector, run: ScanRun, shown: Progress, *, history: bool, jobs: int) -> None:
    git_dir = _git_dir(path)
    if git_dir is not None and (history or git_dir == path):
        _scan_repository(git_dir, path, detector, run, shown, jobs)
    elif history and path.is_file() and _is_bundle(path):
        _scan_bundle(path, detector, run, shown, jobs)
        return
    elif git_dir is not None:
        run.notes.append(f"{path}: the history was not read; add --history")
    if git_dir == path:
        return
    shown.begin(str(path), None)
    with ThreadPoolExecutor(jobs) as pool:
        files = _files(path, run)
        while batch := list(itertools.islice(files, FILES_A_BATCH)):
            for result in pool.map(lambda file: _scan_file(detector, file), batch):
                _take(run, shown, *result)


def _take(run: ScanRun, shown: Progress, candidates: list[Candidate], unread: Counter[str], size: int) -> None:
    run.candidates += candidates
    run.unread.update(unread)
    run.files += 1
    run.bytes += size
    shown.advance(1, size, len(candidates))


def _files(path: Path, run: ScanRun) -> Iterator[Path]:
    """Every file below the path, hidden ones too; links are not followed but their targets are read as text."""
    if not path.is_dir() or path.is_symlink():
        yield path
        return
    stack = [path]
    while stack:
        folder = stack.pop()
        try:
            with os.scandir(folder) as entries:
                for entry in sorted(entries, key=lambda item: item.name):
                    if entry.is_dir(follow_symlinks=False):
                        # Objects are compressed and packed: they are the history's, which reads each of them once.
                        if not (entry.name == "objects" and (folder / "HEAD").is_file()):
                            stack.append(Path(entry.path))
                    else:
                        yield Path(entry.path)
        except OSError:
            run.unread["folder_unreadable"] += 1


def _scan_file(detector: Detector, path: Path) -> tuple[list[Candidate], Counter[str], int]:
    place = Place("local_file", path=str(path))
    try:
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            target = os.fsencode(path.readlink())
            result = detector.scan_bytes(target, path.name)
            return _placed(list(result.candidates) if result else [], place), Counter(), len(target)
        if not stat.S_ISREG(mode):
            return [], Counter({"special_file": 1}), 0
        with path.open("rb", buffering=0) as file:
            return _scan_stream(detector, file, str(path))
    except OSError:
        return [], Counter({"file_unreadable": 1}), 0


def _scan_stream(detector: Detector, file: BinaryIO | object, path: str) -> tuple[list[Candidate], Counter[str], int]:
    def read(size: int) -> bytes:
        """As much as there is, up to the size: pipes give less at a time."""
        parts: list[bytes] = []
        while size and (part := file.read(min(size, 1 << 24))):  # type: ignore[union-attr]  # both kinds can be read
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    start = read(PIECE)
    place = Place("local_file", path=path)
    if len(start) < PIECE:
        result = detector.scan_bytes(start, os.path.basename(path))
        if result is None:
            return [], Counter(), len(start)
        return _placed(list(result.candidates), place), Counter(result.unread), len(start)
    pieces = scan_pieces(detector, start, read)
    return _placed(pieces.candidates, place), pieces.unread, pieces.bytes


def _placed(candidates: list[Candidate], place: Place) -> list[Candidate]:
    if not candidates:
        return []
    named = replace(place, path=redact(place.path or ""))
    return [replace(candidate, place=named) for candidate in candidates]


def _git_dir(path: Path) -> Path | None:
    """The git directory of a work tree, or the path itself when it is a bare repository."""
    if not path.is_dir():
        return None
    dot_git = path / ".git"
    if dot_git.is_dir():
        return dot_git
    if dot_git.is_file():
        text = dot_git.read_text(errors="replace").strip()
        target = path / text.removeprefix("gitdir: ")
        return target if text.startswith("gitdir: ") and target.is_dir() else None
    looks_bare = (path / "HEAD").is_file() and (path / "objects").is_dir() and (path / "refs").is_dir()
    return path if looks_bare else None


def _scan_repository(
    git_dir: Path, shown_as: Path, detector: Detector, run: ScanRun, shown: Progress, jobs: int
) -> None:
    shown.begin(f"history of {shown_as}", None)
    before = [0, 0]

    def on_progress(done: int, total: int) -> None:
        if total != before[1]:
            shown.begin(f"history of {shown_as}", total)
            before[1] = total
        shown.advance(done - before[0], 0, 0)
        before[0] = done

    try:
        found = scan_history(git_dir, detector, readers=jobs, on_progress=on_progress)
    except GitError:
        run.unread["repository_unreadable"] += 1
        run.notes.append(f"{shown_as}: git cannot read this repository")
        return
    run.candidates += found.candidates
    run.unread.update(found.unread)
    run.objects += found.objects
    run.bytes += found.bytes
    shown.advance(0, found.bytes, len(found.candidates))


def _is_bundle(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(16) in _BUNDLE
    except OSError:
        return False


def _scan_bundle(path: Path, detector: Detector, run: ScanRun, shown: Progress, jobs: int) -> None:
    """A bundle's history, by way of a repository of its own that is removed again."""
    with tempfile.TemporaryDirectory(prefix="r8scan-bundle-") as folder:
        git_dir = Path(folder) / "bundle.git"
        allowed = environment(protocol__allow="always")
        for command in (
            ["git", "init", "--quiet", "--bare", "--template=", str(git_dir)],
            ["git", f"--git-dir={git_dir}", "fetch", "--quiet", str(path.absolute()), "+refs/*:refs/*"],
        ):
            if subprocess.run(command, env=allowed, capture_output=True, check=False).returncode != 0:
                run.unread["bundle_unreadable"] += 1
                return
        _scan_repository(git_dir, path, detector, run, shown, jobs)
