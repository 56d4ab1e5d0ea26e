"""Rescans a user or an organization: queues a job for each public repository and gist."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from scanner.detection import redact
from scanner.github.addresses import is_gist_id, is_owner
from scanner.github.client import get_json, next_page
from scanner.github.errors import NotFound
from scanner.github.urls import is_repository_name
from scanner.records import jobs
from scanner.records.states import JobKind
from scanner.response.respond import Response
from scanner.sources.rescan.steps import Work

PAGE_SIZE = 100
MAX_PAGES = 200
CHILD_PRIORITY = 20


def queue_repositories(work: Work) -> Response:
    """Queue a job for each repository of the owner."""
    return _queue(work, "repos", "repositories", _job_of_repository)


def queue_gists(work: Work) -> Response:
    """Queue a job for each gist of the owner."""
    return _queue(work, "gists", "gists", _job_of_gist)


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to be queued: its kind, what it reads, and its dedupe key."""

    kind: JobKind
    target: dict[str, Any]
    dedupe_key: str


def repository_job(name: str, repository_id: int | None) -> NewJob:
    """Return the job that reads a repository. `name` must be redacted."""
    target = {"repository": name, "repository_id": repository_id, "published_at": None}
    return NewJob(JobKind.REPOSITORY, target, f"repository:{name.lower()}")


def gist_job(gist_id: str) -> NewJob:
    """Return the job that reads a gist."""
    return NewJob(JobKind.GIST, {"gist": gist_id}, f"gist:{gist_id}")


def _queue(work: Work, path: str, name: str, job_of: Callable[[Any], NewJob | None]) -> Response:
    """Queue a job for each entry of a list of the REST API."""
    owner = str(work.job.target["owner"])
    if not is_owner(owner):
        raise NotFound("unusable_owner", "this is not a valid owner name")
    page = int(work.at.get("page", 1))
    while page <= MAX_PAGES:
        url = f"{work.github.api_url}/users/{owner}/{path}"
        try:
            response, listed = get_json(work.github, url, params={"per_page": PAGE_SIZE, "page": page}, expected=list)
        except NotFound as err:
            raise NotFound("not_found", f"there is no user or organisation {owner}") from err
        with work.database.write() as session:
            # Write this first: it fails if the job was cancelled, and then no further jobs are queued.
            work.job.lease.write(session, failures=1)
            children = [job for entry in listed if (job := job_of(entry)) is not None]
            work.counts["unusable_entry"] += len(listed) - len(children)
            # Use a fixed order, so that two jobs that queue the same jobs cannot deadlock.
            for child in sorted(children, key=lambda job: job.dedupe_key):
                jobs.enqueue_urgent(
                    session,
                    child.kind,
                    child.target,
                    source=work.job.source,
                    priority=CHILD_PRIORITY,
                    dedupe_key=child.dedupe_key,
                    parent_id=work.job.id,
                )
                work.counts[name] += 1
        if not listed or next_page(work.github, response) is None:
            return Response()
        page += 1
        work.checkpoint({"page": page})
    work.counts[f"unread_{name}_over_limit"] += 1
    return Response()


def _job_of_repository(entry: Any) -> NewJob | None:
    name = entry.get("full_name") if isinstance(entry, dict) else None
    repository_id = entry.get("id") if isinstance(entry, dict) else None
    if not isinstance(name, str) or not is_repository_name(name) or not isinstance(repository_id, int):
        return None
    return repository_job(redact(name), repository_id)


def _job_of_gist(entry: Any) -> NewJob | None:
    gist_id = entry.get("id") if isinstance(entry, dict) else None
    if not isinstance(gist_id, str) or not is_gist_id(gist_id):
        return None
    return gist_job(gist_id)
