"""Walks folders, reads files, and finds git repositories, for `r8scan scan`."""

from __future__ import annotations

import itertools
import operator
import os
import re
import stat
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path

from scanner.detection import Candidate, Detector, Digester, Place, redact, sha256_digest
from scanner.detection.git.git_formats import of_index
from scanner.detection.history.git_processes import GitError
from scanner.detection.history.git_repositories import common_dir, git_dir_of, is_bare
from scanner.isolation import shared_pool
from scanner.isolation.file_survey import Survey
from scanner.isolation.file_survey import running as survey_running
from workers.cli.errors import WrongUsage
from workers.cli.scan_repositories import BUNDLES, Histories, missing_submodules
from workers.cli.scan_run import Progress, ScanRun
from workers.cli.scan_streams import Readable, StreamRead, scan_stream

FILES_A_BATCH = 512
FILES_A_TASK = 8
BATCHES_BEFORE_SURVEY = 2
"""The number of batches that are scanned without a survey (the quick first search in other processes).

The processes need about 0.1 s to start, which would delay small scans.
"""
FILES_A_SURVEY = 4096

_NAME, _IS_FOLDER = operator.attrgetter("name"), operator.methodcaller("is_dir", follow_symlinks=False)
"""Functions that return the name of a folder's entry, and whether it is a folder.

They are faster than the same code in Python, which matters for folders with 100,000 entries.
"""

_LOOSE_OBJECT = re.compile(r"[0-9a-f]{2}/[0-9a-f]{38}(?:[0-9a-f]{24})?")
_PACK = re.compile(r"(pack/pack-[0-9a-f]+)\.(?:pack|idx)")
"""The paths of git's pack files and their indexes: https://git-scm.com/docs/gitrepository-layout"""


def scan_all(
    paths: Sequence[str],
    *,
    history: bool,
    jobs: int,
    progress: Callable[[], AbstractContextManager[Progress]],
) -> ScanRun:
    """Scan all paths and return the result.

    Args:
        paths: Files and folders, and "-" for standard input.
        history: Whether to read the histories of repositories with a work tree, and of git bundles.
        jobs: The number of files to read in parallel.
        progress: Returns a context manager that yields the progress display.

    Raises:
        WrongUsage: A path does not exist.
        SettingsError: A setting is wrong.
    """
    detector = Detector(_digester(), reader=shared_pool())
    for path in paths:
        if path != "-" and not os.path.lexists(path):
            named = path or "file without a name"
            raise WrongUsage(f"there is no {named}: name a file or folder that exists, or - for standard input")
    with progress() as shown:
        scan = _Scan(detector, shown, history, jobs)
        for path in paths:
            if path == "-":
                scan.standard_input()
            else:
                scan.path(Path(path))
    scan.run.unread = +scan.run.unread
    return scan.run


def _digester() -> Digester:
    """Return the function that computes a token's digest, and load custom token formats."""
    # Loading the settings takes long, so do it only if an R8SCAN_* variable is set.
    if not any(name.upper().startswith("R8SCAN_") for name in os.environ):
        return sha256_digest
    from scanner.settings import load_settings

    return load_settings(read_dotenv=False, use_state=False).digester()


@dataclass(slots=True)
class _Scan:
    """Scans one path after another and collects the results in `run`."""

    detector: Detector
    shown: Progress
    history: bool
    jobs: int
    run: ScanRun = field(default_factory=ScanRun)
    histories: Histories = field(init=False)

    def __post_init__(self) -> None:
        self.histories = Histories(self.detector, self.shown, self.jobs)

    def standard_input(self) -> None:
        self.shown.begin("standard input", None)
        self._add("-", _scan_stream(self.detector, sys.stdin.buffer, "-"))

    def path(self, path: Path) -> None:
        """Scan a file, or a folder with all its content."""
        self.shown.begin(str(path), None)
        walk = _Walk(path, self.detector, self.history)
        self.run.candidates += walk.in_names(path.parent, [path.name])
        has_bundle = self._files(walk)
        self.run.add(walk.run)
        for git_dir, shown_as in walk.bare:
            self.run.add(self.histories.scan(git_dir, shown_as, is_given=shown_as == path))
        if not self.history:
            left_out = {os.path.realpath(common_dir(git_dir)): name for git_dir, name in reversed(walk.work_trees)}
            self.run.notes += [f"{name}: the history was not read; add --history" for name in left_out.values()]
            return
        for git_dir, shown_as in walk.work_trees:
            self.run.add(self.histories.scan(git_dir, shown_as, is_given=shown_as == path))
        if not (walk.bare or walk.work_trees or walk.has_lost_history or has_bundle):
            self.run.add(self.histories.scan_around(path))

    def _files(self, walk: _Walk) -> bool:
        """Scan the files that `walk` finds. Return True if the history of a bundle was read."""
        is_folder = walk.path.is_dir() and not walk.path.is_symlink()
        files = walk.files() if is_folder else iter([str(walk.path)])
        has_bundle = False
        with ThreadPoolExecutor(self.jobs) as pool, survey_running(self.jobs, pool) as survey:
            for batch in self._batches(files, survey):
                for file, read in zip(batch, _scan_files(pool, self.detector, batch, self.history), strict=True):
                    if read is not None:
                        self._add(str(file), read)
                    else:
                        has_bundle = self._bundle(file, is_given=file == walk.path) or has_bundle
        return has_bundle

    def _bundle(self, file: Path, *, is_given: bool) -> bool:
        """Scan a git bundle and return True, or scan it as an ordinary file and return False."""
        try:
            self.run.add(self.histories.scan_bundle(file, is_given=is_given))
        except GitError:
            self.run.add_unread(str(file), {"bundle_unreadable": 1})
            if (content := _scan_file(self.detector, file)) is not None:
                self._add(str(file), content)
            return False
        return True

    def _batches(self, files: Iterator[str], survey: Survey) -> Iterator[list[Path]]:
        """Yield batches of the files that may contain a token."""
        for _ in range(BATCHES_BEFORE_SURVEY):
            if not (batch := list(itertools.islice(files, FILES_A_BATCH))):
                return
            yield list(map(Path, batch))
        while batch := list(itertools.islice(files, FILES_A_SURVEY)):
            are_clean, size = survey.clean(batch)
            count = sum(are_clean)
            self.run.files += count
            self.run.bytes += size
            self.shown.advance(count, size, 0)
            rest = [Path(file) for file, is_clean in zip(batch, are_clean, strict=True) if not is_clean]
            yield from (rest[start : start + FILES_A_BATCH] for start in range(0, len(rest), FILES_A_BATCH))

    def _add(self, path: str, read: StreamRead) -> None:
        self.run.candidates += read.candidates
        self.run.add_unread(path, read.unread)
        self.run.files += 1
        self.run.bytes += read.bytes
        self.shown.advance(1, read.bytes, len(read.candidates))


@dataclass(slots=True)
class _Walk:
    """Walks through all files below a path, but follows no symbolic links. Collects the repositories there with the
    paths to display.
    """

    path: Path
    detector: Detector
    reads_histories: bool
    run: ScanRun = field(default_factory=ScanRun)
    bare: list[tuple[Path, Path]] = field(default_factory=list)
    work_trees: list[tuple[Path, Path]] = field(default_factory=list)
    has_lost_history: bool = False

    def files(self) -> Iterator[str]:
        """Yield the paths of all files."""
        return itertools.chain.from_iterable(self._lists_of_files())

    def _lists_of_files(self) -> Iterator[list[str]]:
        """Yield the paths of each folder's files as one list."""
        stack = [(str(self.path), False)]
        while stack:
            folder, is_in_git = stack.pop()
            try:
                with os.scandir(folder) as entries:
                    listed = list(entries)
                    names = sorted(map(_NAME, listed))
                    folders = set(map(_NAME, itertools.compress(listed, map(_IS_FOLDER, listed))))
            except OSError:
                self.run.add_unread(folder, {"folder_unreadable": 1})
                continue
            if not names:
                continue
            self.run.candidates += self.in_names(folder, names)
            is_git_dir = self._meet(folder, names, is_in_git=is_in_git)
            prefix = f"{folder.rstrip('/')}/" if folder != os.curdir else ""
            yield [prefix + name for name in (names if not folders else [n for n in names if n not in folders])]
            for name in sorted(folders):
                if is_git_dir and name == "objects":
                    yield self._beside_objects(Path(prefix + name))
                else:
                    stack.append((prefix + name, is_in_git or name == ".git"))

    def _meet(self, path: str, names: Collection[str], *, is_in_git: bool) -> bool:
        """Record the folder's repository, if there is one. Return whether the folder itself is a git directory."""
        # Test the names first: most folders are not repositories, and creating 100,000 `Path` objects takes time.
        if ".git" not in names and "HEAD" not in names:
            return False
        folder = Path(path)
        if ".git" in names and not is_in_git:
            git_dir = git_dir_of(folder)
            if git_dir is not None:
                self.work_trees.append((git_dir, folder))
            elif self.reads_histories:
                self.has_lost_history = True
                self.run.add_unread(str(folder / ".git"), {"git_directory_missing": 1})
            if self.reads_histories and ".gitmodules" in names:
                self.run.add(missing_submodules(folder))
        if "HEAD" not in names or "objects" not in names or not is_bare(folder):
            return False
        (self.work_trees if is_in_git else self.bare).append((folder, folder))
        return True

    def _beside_objects(self, objects: Path) -> list[str]:
        """Return the files in a git `objects` folder that are not part of the repository's history."""
        found: list[str] = []
        for root, _, names in os.walk(objects, onerror=self._unreadable):
            folder = os.path.relpath(root, objects)
            for name in sorted(names):
                path = os.path.join(root, name)
                if not _is_read_by_git(objects, os.path.normpath(os.path.join(folder, name))):
                    found.append(path)
        return found

    def _unreadable(self, error: OSError) -> None:
        self.run.add_unread(str(error.filename), {"folder_unreadable": 1})

    def in_names(self, folder: str | Path, names: Sequence[str]) -> list[Candidate]:
        """Return the possible tokens in the names of a folder's files and subfolders."""
        if not names or self.detector.scan_bytes(os.fsencode("\n".join(names))) is None:
            return []
        found: list[Candidate] = []
        for name in names:
            result = self.detector.scan_bytes(os.fsencode(name))
            place = Place("file_name", path=os.path.join(folder, name))
            found += _placed(list(result.candidates) if result else [], place)
        return [replace(candidate, line=0, column=0) for candidate in found]


def _is_read_by_git(objects: Path, name: str) -> bool:
    """Return whether git reads the file `name` in the folder `objects`."""
    pack = _PACK.fullmatch(name)
    if pack is None:
        return _LOOSE_OBJECT.fullmatch(name) is not None
    return (objects / f"{pack[1]}.pack").is_file() and of_index(objects / f"{pack[1]}.idx") is not None


def _scan_files(
    pool: ThreadPoolExecutor, detector: Detector, paths: Sequence[Path], leaves_bundles: bool
) -> Iterator[StreamRead | None]:
    """Yield the result of `_scan_file` for each path, in the order of the paths."""
    # Each task reads several files, because starting a task takes longer than reading a small file.

    def scan(some: Sequence[Path]) -> list[StreamRead | None]:
        return [_scan_file(detector, path, leaves_bundles) for path in some]

    tasks = [paths[start : start + FILES_A_TASK] for start in range(0, len(paths), FILES_A_TASK)]
    return itertools.chain.from_iterable(pool.map(scan, tasks))


def _scan_file(detector: Detector, path: Path, leaves_bundles: bool = False) -> StreamRead | None:
    """Scan a file's content. For a symbolic link, scan its target's path as text."""
    place = Place("local_file", path=str(path))
    try:
        status = path.lstat()
        mode = status.st_mode
        if stat.S_ISLNK(mode):
            target = os.fsencode(path.readlink())
            result = detector.scan_bytes(target, path.name)
            return StreamRead(_placed(list(result.candidates) if result else [], place), Counter(), len(target))
        if not stat.S_ISREG(mode):
            return StreamRead([], Counter({"special_file": 1}), 0)
        with path.open("rb", buffering=0) as file:
            if leaves_bundles and os.pread(file.fileno(), len(BUNDLES[0]), 0).startswith(BUNDLES):
                return None
            return _scan_stream(detector, file, str(path), status.st_size)
    except OSError:
        return StreamRead([], Counter({"file_unreadable": 1}), 0)


def _scan_stream(detector: Detector, file: Readable, path: str, size: int = 0) -> StreamRead:
    read = scan_stream(detector, file, path, size)
    return read._replace(candidates=_placed(read.candidates, Place("local_file", path=path)))


def _placed(candidates: list[Candidate], place: Place) -> list[Candidate]:
    if not candidates:
        return []
    named = replace(place, path=redact(place.path or ""))
    return [replace(candidate, place=named) for candidate in candidates]
