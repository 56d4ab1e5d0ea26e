"""Scans git repositories and git bundles, for `r8scan scan`."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

from scanner.detection import Candidate, Detector, redact
from scanner.detection.history.git_processes import GitError
from scanner.detection.history.git_repositories import common_dir, git_dir_of, unbundled
from scanner.detection.history.repository_refs import file_start
from scanner.detection.history.scan import scan_history
from workers.cli.scan_run import NotRead, Progress, ScanRun

MAX_GITMODULES = 1 << 20
MAX_SUBMODULES = 1_000
BUNDLES = (b"# v2 git bundle\n", b"# v3 git bundle\n")
"""The first bytes of a git bundle."""


class Histories:
    """Scans git histories, each repository only once."""

    def __init__(self, detector: Detector, shown: Progress, readers: int) -> None:
        self._detector, self._shown, self._readers = detector, shown, readers
        self._seen: set[str] = set()

    def scan(self, git_dir: Path, shown_as: Path, *, is_given: bool = False) -> ScanRun:
        """Scan a repository's history. Return an empty result if the repository was scanned before.

        Args:
            shown_as: The path of the repository to show to the user.
            is_given: Whether the user typed the repository's path. If so, the paths of found tokens do not begin with
                it.
        """
        run, shown = ScanRun(), self._shown
        real = os.path.realpath(common_dir(git_dir))
        if real in self._seen:
            return run
        self._seen.add(real)
        shown.begin(f"history of {shown_as}", None)
        done_before = total_before = 0

        def on_progress(done: int, total: int) -> None:
            nonlocal done_before, total_before
            if total != total_before:
                shown.begin(f"history of {shown_as}", total)
                total_before = total
            shown.advance(done - done_before, 0, 0)
            done_before = done

        try:
            found = scan_history(git_dir, self._detector, readers=self._readers, on_progress=on_progress)
        except GitError as err:
            run.add_unread(str(shown_as), {"repository_unreadable": 1})
            run.notes.append(f"{shown_as}: the history was not read: {err}")
            return run
        prefix = "" if is_given else redact(str(shown_as))
        run.candidates = [_below(prefix, candidate) for candidate in found.candidates]
        run.objects, run.bytes = found.objects, found.bytes
        named = Counter[str]()
        name = redact(str(shown_as))
        for part in found.parts:
            named[part.reason] += part.count
            # Begin each path with the repository's path, because the user may have named several repositories.
            path = os.path.join(name if name != os.curdir else "", part.path) if part.path else name
            run.add_not_read(NotRead(part.reason, path, part.count, part.git_object, part.commit))
        run.add_unread(str(shown_as), found.unread - named)
        shown.advance(0, found.bytes, len(found.candidates))
        return run

    def scan_bundle(self, path: Path, *, is_given: bool) -> ScanRun:
        """Scan the history in a git bundle.

        Args:
            path: The path of the bundle.
            is_given: Whether the user typed the bundle's path. If so, the paths of found tokens do not begin with it.

        Raises:
            GitError: The bundle cannot be read.
        """
        with unbundled(path) as git_dir:
            return self.scan(git_dir, path, is_given=is_given)

    def scan_around(self, path: Path) -> ScanRun:
        """Scan the history of the repository that contains the path, if there is one."""
        for folder in path.absolute().parents:
            git_dir = git_dir_of(folder)
            if git_dir is not None:
                run = ScanRun(notes=[f"{path}: it is inside the repository {folder}, whose whole history was read"])
                run.add(self.scan(git_dir, folder))
                return run
        return ScanRun()


def missing_submodules(folder: Path) -> ScanRun:
    """Return a scan result that lists each submodule that was not cloned, and so could not be read.

    `folder` is the root of a work tree.
    """
    run = ScanRun()
    file = folder / ".gitmodules"
    if file.is_symlink():
        return run  # git itself ignores a `.gitmodules` that is a symbolic link
    named: set[str] = set()
    for line in file_start(file, MAX_GITMODULES).splitlines():
        key, _, value = line.partition(b"=")
        if key.strip() == b"path":
            named.add(os.fsdecode(value.strip().replace(b"\0", b"")))
        if len(named) > MAX_SUBMODULES:
            run.add_unread(str(file), {"submodules_over_limit": 1})
            break
    for name in sorted(named)[:MAX_SUBMODULES]:
        if not os.path.lexists(folder / name / ".git"):
            run.add_unread(str(folder / name), {"submodule_missing": 1})
    return run


def _below(prefix: str, candidate: Candidate) -> Candidate:
    if not prefix:
        return candidate
    path = os.path.join(prefix, candidate.place.path or candidate.place.ref or "")
    return replace(candidate, place=replace(candidate.place, path=path.rstrip("/")))
