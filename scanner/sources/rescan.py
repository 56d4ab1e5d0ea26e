"""Does a `repository` job: mirrors a repository, scans all of its history, then its wiki, step by step.

The mirror lies in a folder of the state folder that only we may read. It is removed at the end of its step, and after a
crash by whoever comes next: the folder's lock tells whether its owner still lives.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from scanner.detection import Candidate, Detector, Place, PlaceKind
from scanner.detection.git_processes import GitError
from scanner.detection.history import scan_history
from scanner.detection.redact import redact
from scanner.github import mirrors
from scanner.github.client import GitHub, get_json
from scanner.github.errors import BadCredential, GitHubError, Malformed, NotFound, Unavailable
from scanner.github.mirrors import MirrorStopped
from scanner.github.urls import blob_url, commit_url, git_url, is_repository_name
from scanner.records import jobs, leases
from scanner.records.database import Database, is_unavailable
from scanner.records.jobs import ClaimedJob
from scanner.records.leases import LeaseLost
from scanner.response.respond import Policy, Response
from scanner.settings import Settings
from scanner.sources.page_work import respond_or_keep

FOLDER = "mirrors"
STEPS = ("repository", "wiki")
PROGRESS_SECONDS = 2.0
LONGEST_RETRY_SECONDS = 3600.0
CREDENTIAL_RETRY_SECONDS = 600.0

_log = logging.getLogger(__name__)


def rescan_next(
    database: Database, github: GitHub, detector: Detector, policy: Policy, *, settings: Settings
) -> Response | None:
    """Do one step of the most urgent rescan that is due; None when there is none."""
    remove_abandoned(settings.state_dir)
    job = jobs.claim_next(database, "repository")
    if job is None:
        return None
    try:
        return _work(database, github, detector, policy, job, settings)
    except (MirrorStopped, LeaseLost):
        _log.warning("a rescan was cancelled or went to another worker", extra={"job": job.id})
        return Response()


def _work(
    database: Database, github: GitHub, detector: Detector, policy: Policy, job: ClaimedJob, settings: Settings
) -> Response:
    """One step and what it comes to. LeaseLost and MirrorStopped when nobody waits for it any more."""
    counts = Counter({key: int(value) for key, value in job.progress.get("counts", {}).items()})
    step = int(job.progress.get("step", 0))
    response, failure = Response(), None
    with leases.kept(database, job.lease) as lost:
        try:
            response = _step(database, github, detector, policy, job, STEPS[step], counts, settings, lost)
        except GitError as err:
            failure = GitHubError("mirror_unreadable", f"the mirror cannot be read: {err}")
        except GitHubError as err:
            failure = err
    with database.write() as session:
        if failure is not None:
            _failed(session, job, STEPS[step], failure, counts)
        else:
            _next_step(session, job, step, counts)
    return response


def remove_abandoned(state_dir: Path) -> int:
    """Delete mirrors whose owner is gone; the number deleted."""
    root = state_dir / FOLDER
    removed = 0
    if not root.is_dir():
        return removed
    with _only_one(root):
        for folder in root.glob("job-*"):
            try:
                with (folder / "lock").open("a") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, FileNotFoundError):
                continue  # its owner is at work, or has just removed it
            shutil.rmtree(folder, ignore_errors=True)
            removed += 1
    return removed


@contextmanager
def _only_one(root: Path) -> Iterator[None]:
    """Nobody else makes or removes mirrors meanwhile: one that is just made has no lock of its own yet."""
    descriptor = os.open(root, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _mirror_folder(state_dir: Path, job: ClaimedJob) -> Iterator[Path]:
    root = state_dir / FOLDER
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        with _only_one(root):
            folder = Path(tempfile.mkdtemp(prefix=f"job-{job.id}-", dir=root))
            file = stack.enter_context((folder / "lock").open("a"))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            yield folder / "mirror.git"
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _step(
    database: Database,
    github: GitHub,
    detector: Detector,
    policy: Policy,
    job: ClaimedJob,
    step: str,
    counts: Counter[str],
    settings: Settings,
    lost: threading.Event,
) -> Response:
    name, repository_id = _repository(github, job.target)
    report = _reporter(database, job, counts)
    url = git_url(github.web_url, f"{name}.wiki" if step == "wiki" else name)
    with _mirror_folder(settings.state_dir, job) as mirror:
        report("cloning", 0, 0)
        mirrors.clone(
            url,
            mirror,
            credential=github.credential.token(),
            limit_bytes=settings.rescan_max_bytes,
            stop=lost,
            on_progress=lambda done, total: report("cloning", done, total),
        )
        history = scan_history(
            mirror, detector, on_progress=lambda done, total: report("scanning", done, total), stop=lost
        )
    if lost.is_set():
        raise MirrorStopped
    counts.update({f"unread_{reason}": count for reason, count in history.unread.items()})
    counts["objects"] += history.objects
    counts["bytes"] += history.bytes
    counts["candidates"] += len(history.candidates)
    published = job.target.get("published_at")
    base = Place(
        kind="file",
        repository=redact(name),
        repository_id=repository_id,
        published_at=datetime.fromisoformat(published) if published else None,
    )
    candidates = [_placed(candidate, base, github.web_url, name, step) for candidate in history.candidates]
    return respond_or_keep(database, candidates, source=job.source, policy=policy, state_dir=settings.state_dir)


def _placed(candidate: Candidate, base: Place, web_url: str, name: str, step: str) -> Candidate:
    """The candidate at its public address; the history itself knows only paths and commits."""
    found = candidate.place
    kind: PlaceKind = found.kind
    if step == "wiki":
        url, kind = f"{web_url}/{name}/wiki", "wiki_page" if found.kind == "file" else found.kind
    elif found.kind == "file" and found.commit and found.path:
        url = blob_url(web_url, name, found.commit, found.path, candidate.line)
    elif found.commit:
        url = commit_url(web_url, name, found.commit)
    else:
        url = f"{web_url}/{name}"
    place = replace(
        base,
        kind=kind,
        url=redact(url),
        path=found.path,
        commit=found.commit,
        ref=found.ref,
        git_object=found.git_object,
    )
    return replace(candidate, place=place)


def _repository(github: GitHub, target: Any) -> tuple[str, int | None]:
    """The repository's present name, which may have changed since, and its id, by which places are the same."""
    name, repository_id = str(target["repository"]), target.get("repository_id")
    if repository_id is None and not is_repository_name(name):
        raise NotFound("unusable_repository_name", "the repository has no usable name")
    path = f"repositories/{int(repository_id)}" if repository_id is not None else f"repos/{name}"
    try:
        _, value = get_json(github, f"{github.api_url}/{path}", expected=dict)
    except NotFound as err:
        raise NotFound("not_found", f"there is no public repository {redact(name)}") from err
    full_name, found_id = value.get("full_name"), value.get("id")
    is_usable = isinstance(full_name, str) and is_repository_name(full_name)
    if not is_usable or not isinstance(found_id, int) or not 0 < found_id < 2**62:
        raise Malformed("unexpected_json", "the repository's description cannot be used")
    return full_name, found_id


def _reporter(database: Database, job: ClaimedJob, counts: Counter[str]) -> Callable[[str, int, int], None]:
    """Writes progress into the job's row, not more often than anybody reads it.

    Only the end of a step counts as getting somewhere: a repository that kills its worker must not do so for ever.
    """
    last = [-PROGRESS_SECONDS]

    def report(phase: str, done: int, total: int) -> None:
        now = time.monotonic()
        if now - last[0] < PROGRESS_SECONDS:
            return
        last[0] = now
        progress = {**job.progress, "phase": phase, "done": done, "total": total or None, "counts": dict(counts)}
        try:
            with database.write() as session:
                job.lease.write(session, progress=progress)
        except Exception as err:
            if not is_unavailable(err):
                raise
            _log.warning("progress not written: the database is away", extra={"job": job.id})

    return report


def _next_step(session: Any, job: ClaimedJob, step: int, counts: Counter[str]) -> None:
    if step + 1 < len(STEPS):
        progress = {"step": step + 1, "phase": STEPS[step + 1], "counts": dict(counts)}
        job.lease.write(session, progress=progress, failures=0)
        jobs.postpone(session, job, delay=0, error=None)
        return
    partial = any(key.startswith("unread_") for key in +counts)
    jobs.finish(session, job, "partial" if partial else "done", counts=+counts)


def _failed(session: Any, job: ClaimedJob, step: str, err: GitHubError, counts: Counter[str]) -> None:
    _log.warning("rescan: %s", err, extra={"job": job.id, "step": step})
    if step == "wiki" and isinstance(err, NotFound):
        partial = any(key.startswith("unread_") for key in +counts)
        jobs.finish(session, job, "partial" if partial else "done", counts=+counts)
    elif isinstance(err, Unavailable | BadCredential) or err.retry_after:
        wait = CREDENTIAL_RETRY_SECONDS if isinstance(err, BadCredential) else 10.0
        delay = min(max(err.retry_after or 0.0, wait * 4.0**job.failures), LONGEST_RETRY_SECONDS)
        jobs.postpone(session, job, delay=delay, error=str(err))
    else:
        counts[f"error_{err.reason}"] += 1
        jobs.finish(session, job, "failed", counts=+counts, error=str(err))
