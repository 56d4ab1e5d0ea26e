"""The interface of a source. Each source's package defines a `Source`, and `scanner.sources.registry` lists it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from scanner.detection import Detector
from scanner.github.client import GitHub
from scanner.github.credentials import AppInstallation
from scanner.records.database import Database
from scanner.records.states import JobKind
from scanner.response.policy import Policy
from scanner.settings import Settings
from scanner.sources.polling.report import PollReport


class PollContext(Protocol):
    """The objects that a poll may use, such as the database. A worker process provides them."""

    @property
    def settings(self) -> Settings: ...
    @property
    def database(self) -> Database: ...
    @property
    def github(self) -> GitHub: ...
    @property
    def github_of_gists(self) -> GitHub:
        """Return the GitHub client for listing gists, because GitHub does not let an App list gists."""

    @property
    def detector(self) -> Detector: ...
    @property
    def policy(self) -> Policy: ...


def github_for_listings(context: PollContext) -> GitHub:
    """Return the GitHub client for listings of all repositories.

    It uses a personal token if there is one, because GitHub does not document which repositories GraphQL shows to an
    App.
    """
    personal = context.github_of_gists
    return context.github if isinstance(personal.credential, AppInstallation) else personal


@dataclass(frozen=True, slots=True)
class Source:
    """A source of public content that is polled.

    Attributes:
        name: The source's name in `R8SCAN_SOURCES`, in the database and in `r8scan status`.
        poll: The function that polls the source if it is due. It must not wait for anything except answers of the
            source, because all sources share a thread pool.
        job_kinds: The kinds of jobs that a poll may queue. The workers for these kinds are woken after the poll.
        droppable: For each kind of job, the priorities of jobs that load shedding may drop.
    """

    name: str
    poll: Callable[[PollContext], PollReport]
    job_kinds: tuple[JobKind, ...]
    droppable: Mapping[JobKind, tuple[int, ...]] = field(default_factory=dict)
