"""The state of the simulated GitHub, and methods that act as its users, such as push and comment."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from starlette.responses import Response

from workers.sandbox import git_backend, github_forms
from workers.sandbox.alert_signer import AlertSigner
from workers.sandbox.graphql import GraphQL
from workers.sandbox.repository_index import RepositoryIndex
from workers.sandbox.timeline import Timeline

Fault = Callable[[], Response | None]
"""A function that returns the answer to a request, or None for the normal answer."""


@dataclass
class Repository:
    """A repository on the simulated GitHub. Times are seconds since the epoch.

    Attributes:
        hidden: Whether the repository is deleted or private. Requests for it then get status 404.
        tip: The id of the default branch's newest commit, or None before the first push.
    """

    id: int
    name: str
    path: Path
    description: str = ""
    hidden: bool = False
    has_discussions: bool = False
    created_at: float = field(default_factory=time.time)
    pushed_at: float | None = None
    tip: str | None = None
    is_fork: bool = False
    language: str | None = None
    listings: defaultdict[str, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    """The texts that users have written, oldest first, by the name of the list in the REST API: issues,
    issues/comments, pulls, pulls/comments, pulls/1/reviews, comments, releases, activity.
    """


@dataclass
class Gist:
    """A public gist on the simulated GitHub."""

    id: str
    owner: str
    files: dict[str, bytes]
    description: str
    updated_at: str
    comments: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class SandboxGitHub:
    """A simulated GitHub.

    Attributes:
        credential: The only accepted token, or None to accept all.
        faults: Prepared answers by the name of a route. Each of the next requests to this route gets one of them.
    """

    root: Path
    credential: str | None = None
    poll_interval: int | None = 1
    allow_filter: bool = True
    announce_pushes: bool = True
    timeline: Timeline = field(default_factory=Timeline)
    repositories: dict[str, Repository] = field(default_factory=dict)
    renamed: dict[str, str] = field(default_factory=dict)
    requests: Counter[str] = field(default_factory=Counter)
    faults: defaultdict[str, deque[Fault]] = field(default_factory=lambda: defaultdict(deque))
    rate_limit: int = 5000
    git_limit: int | None = None
    """The maximum number of git requests in a second. None means no limit."""
    search_limit: int = 10
    search_incomplete: bool = False
    repository_search_limit: int = 30
    points_limit: int = 5000
    index: RepositoryIndex = field(default_factory=RepositoryIndex)
    by_number: dict[int, Repository] = field(default_factory=dict)
    strange_lists: bool = False
    """Whether lists of repositories contain null and repeated entries, as GitHub's lists sometimes do."""
    graphql: GraphQL = field(init=False)
    """The GraphQL API. It is set when the server starts."""
    gists: list[Gist] = field(default_factory=list)
    app_keys: dict[str, str] = field(default_factory=dict)
    """The public keys of GitHub Apps in PEM format, by App id."""
    installation_tokens: list[str] = field(default_factory=list)
    signer: AlertSigner = field(default_factory=AlertSigner)
    url: str = ""

    def __post_init__(self) -> None:
        self._ids = itertools.count(1001)
        self.lock = threading.RLock()

    @property
    def api_url(self) -> str:
        return f"{self.url}/api"

    def create_repository(self, name: str, description: str = "") -> Repository:
        """Create an empty public repository, and its CreateEvent."""
        with self.lock:
            number = next(self._ids)
            repository = Repository(number, name, self.root / f"{number}.git", description)
            git_backend.create_bare(repository.path, allow_filter=self.allow_filter)
            self._add(repository)
        self.emit(
            "CreateEvent", name, {"ref": None, "ref_type": "repository", "full_ref": "", **self._created(repository)}
        )
        return repository

    def list_repository(self, name: str, *, created_at: float, description: str = "") -> Repository:
        """Add a repository to lists and searches, without a git repository on disk."""
        with self.lock:
            number = next(self._ids)
            repository = Repository(number, name, self.root / f"{number}.git", description, created_at=created_at)
            self._add(repository)
        return repository

    def _add(self, repository: Repository) -> None:
        self.repositories[repository.name.lower()] = self.by_number[repository.id] = repository
        self.index.push(repository.id, repository.created_at)

    def find(self, name: str) -> Repository | None:
        """Return the public repository with this name, or None."""
        repository = self.repositories.get(name.lower())
        return None if repository is None or repository.hidden else repository

    def emit(self, event_type: str, repository: str, payload: dict[str, Any]) -> str:
        """Add an event to the public timeline. Return the event's id."""
        return self.timeline.emit(event_type, repository, self.repositories[repository.lower()].id, payload)

    def create_gist(self, files: dict[str, bytes], owner: str = "ana", description: str = "") -> Gist:
        """Create a public gist with one commit. As on GitHub, this creates no event."""
        with self.lock:
            gist_id = f"{next(self._ids):032x}"
            gist = Gist(gist_id, owner, files, description, f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}")
            path = self.root / f"gist-{gist_id}.git"
            git_backend.create_bare(path, allow_filter=self.allow_filter)
            git_backend.commit_files(path, files, "gist")
            self.repositories[f"gist/{gist_id}"] = Repository(next(self._ids), f"gist/{gist_id}", path)
            self.gists.insert(0, gist)
        return gist

    def open_issue(self, repository: str, title: str, body: str, number: int = 1) -> str:
        """Open an issue. Return the id of its public event."""
        issue = self._issue(repository, number, title, body)
        self.repositories[repository.lower()].listings["issues"].append(issue)
        return self.emit("IssuesEvent", repository, {"action": "opened", "issue": issue})

    def comment(self, repository: str, body: str, number: int = 1) -> str:
        """Comment on an issue. Return the id of the comment's public event."""
        issue = self._issue(repository, number, "a question", "")
        entry = {"body": body, "html_url": f"{issue['html_url']}#issuecomment-1", **_now()}
        comment = github_forms.written("issues/comments", f"{self.api_url}/repos/{repository}", 1, entry)
        self.repositories[repository.lower()].listings["issues/comments"].append(comment)
        return self.emit("IssueCommentEvent", repository, {"action": "created", "issue": issue, "comment": comment})

    def publish(self, repository: str) -> str:
        """Make a private repository public. Return the id of its public event."""
        self.repositories[repository.lower()].hidden = False
        return self.emit("PublicEvent", repository, {})

    def pushed(self, repository: Repository, changes: list[git_backend.RefChange]) -> list[str]:
        """Record a push, and return the ids of its public events."""
        # As on GitHub, a new branch or tag gets a CreateEvent, a deleted one a DeleteEvent, and any other change a
        # PushEvent.
        shown: list[str] = []
        kinds = {(True, False): "branch_creation", (False, True): "branch_deletion", (False, False): "push"}
        for change in changes:
            gone = (change.before == git_backend.ZEROS, change.after == git_backend.ZEROS)
            kind = kinds.get(gone, "push")
            if kind == "push" and not git_backend.is_ancestor(repository.path, change.before, change.after):
                kind = "force_push"
            repository.listings["activity"].append(
                {
                    "id": next(self._ids),
                    "node_id": github_forms.node_id("activity", change.after),
                    "actor": github_forms.user(self.api_url, "ana"),
                    "before": change.before,
                    "after": change.after,
                    "ref": change.ref,
                    "activity_type": kind,
                    "timestamp": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
                }
            )
            if change.ref == "refs/heads/main":
                repository.tip = None if change.after == git_backend.ZEROS else change.after
        if changes:
            repository.pushed_at = time.time()
            self.index.push(repository.id, repository.pushed_at)
        if not self.announce_pushes or repository.hidden:
            return shown
        for change in changes:
            ref_type = "tag" if change.ref.startswith("refs/tags/") else "branch"
            short = change.ref.split("/", 2)[-1]
            if change.before == git_backend.ZEROS:
                payload = {"ref": short, "ref_type": ref_type, "full_ref": change.ref, **self._created(repository)}
                shown.append(self.emit("CreateEvent", repository.name, payload))
            elif change.after == git_backend.ZEROS:
                payload = {"ref": short, "ref_type": ref_type, "full_ref": change.ref, "pusher_type": "user"}
                shown.append(self.emit("DeleteEvent", repository.name, payload))
            else:
                payload = {
                    "repository_id": repository.id,
                    "push_id": next(self._ids),
                    "ref": change.ref,
                    "head": change.after,
                    "before": change.before,
                }
                shown.append(self.emit("PushEvent", repository.name, payload))
        return shown

    def push_address(self, repository: str) -> str:
        """Return the URL for `git push` to the repository."""
        return f"{self.url}/{repository}.git"

    def _issue(self, repository: str, number: int, title: str, body: str) -> dict[str, Any]:
        entry = {"title": title, "body": body, "html_url": f"{self.url}/{repository}/issues/{number}", **_now()}
        return github_forms.written("issues", f"{self.api_url}/repos/{repository}", number, entry)

    @staticmethod
    def _created(repository: Repository) -> dict[str, Any]:
        return {"master_branch": "main", "description": repository.description, "pusher_type": "user"}


def _now() -> dict[str, str]:
    """Return the time fields of an issue or comment that is created now."""
    return dict.fromkeys(("created_at", "updated_at"), f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}")
