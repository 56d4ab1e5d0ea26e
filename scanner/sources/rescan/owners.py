"""The steps of a rescan of a user or an organisation: every public repository and gist becomes a job of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from scanner.detection import redact
from scanner.github.addresses import is_gist_id, is_owner
from scanner.github.client import get_json, next_page
from scanner.github.errors import NotFound
from scanner.github.urls import is_repository_name
from scanner.records import jobs
from scanner.response.respond import Response
from scanner.sources.rescan.steps import Work

PAGE_SIZE = 100
MAX_PAGES = 200
CHILD_PRIORITY = 20


def queue_repositories(work: Work) -> Response:
    """A job for each repository of the owner's."""
    return _queue(work, "repos", "repositories", _repository_job)


def queue_gists(work: Work) -> Response:
    """A job for each gist of the owner's."""
    return _queue(work, "gists", "gists", _gist_job)


JobOf = Callable[[Any], tuple[str, dict[str, Any], str] | None]
"""From an entry of the list to the job's kind, target and key; None for what cannot be used."""


def _queue(work: Work, path: str, name: str, job_of: JobOf) -> Response:
    owner = str(work.job.target["owner"])
    if not is_owner(owner):
        raise NotFound("unusable_owner", "this is no owner's name")
    page = int(work.at.get("page", 1))
    while page <= MAX_PAGES:
        url = f"{work.github.api_url}/users/{owner}/{path}"
        try:
            response, listed = get_json(work.github, url, params={"per_page": PAGE_SIZE, "page": page}, expected=list)
        except NotFound as err:
            raise NotFound("not_found", f"there is no user or organisation {owner}") from err
        with work.database.write() as session:
            # First of all: what was cancelled meanwhile must not lead to anything any more.
            work.job.lease.write(session, failures=1)
            found = [job for entry in listed if (job := job_of(entry)) is not None]
            work.counts["unusable_entry"] += len(listed) - len(found)
            # In one order, so that two who ask for the same never deadlock.
            for kind, target, key in sorted(found, key=lambda job: job[2]):
                jobs.enqueue_or_hasten(
                    session,
                    kind,
                    target,
                    source=work.job.source,
                    priority=CHILD_PRIORITY,
                    dedupe_key=key,
                    parent_id=work.job.id,
                )
                work.counts[name] += 1
        if not listed or next_page(work.github, response) is None:
            return Response()
        page += 1
        work.checkpoint({"page": page})
    work.counts[f"unread_{name}_over_limit"] += 1
    return Response()


def _repository_job(entry: Any) -> tuple[str, dict[str, Any], str] | None:
    name = entry.get("full_name") if isinstance(entry, dict) else None
    repository_id = entry.get("id") if isinstance(entry, dict) else None
    if not isinstance(name, str) or not is_repository_name(name) or not isinstance(repository_id, int):
        return None
    shown = redact(name)
    target = {"repository": shown, "repository_id": repository_id, "published_at": None}
    return "repository", target, f"repository:{shown.lower()}"


def _gist_job(entry: Any) -> tuple[str, dict[str, Any], str] | None:
    gist_id = entry.get("id") if isinstance(entry, dict) else None
    if not isinstance(gist_id, str) or not is_gist_id(gist_id):
        return None
    return "gist", {"gist": gist_id}, f"gist:{gist_id}"
