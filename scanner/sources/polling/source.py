"""What a source is to the rest of the program: a value that its package makes and `scanner.sources.registry` lists."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from scanner.detection import Detector
from scanner.github.client import GitHub
from scanner.github.credentials import AppInstallation
from scanner.records.database import Database
from scanner.records.states import JobKind
from scanner.settings import Settings
from scanner.sources.polling.report import PollReport


class PollContext(Protocol):
    """What a poll may use. The context of a worker process has all of it."""

    @property
    def settings(self) -> Settings: ...
    @property
    def database(self) -> Database: ...
    @property
    def github(self) -> GitHub: ...
    @property
    def github_of_gists(self) -> GitHub:
        """The client that may list gists."""

    @property
    def detector(self) -> Detector: ...


def github_for_listings(context: PollContext) -> GitHub:
    """Return the client that asks for listings of all repositories: a personal token's, where there is one.

    What an App's token is shown by GraphQL is not documented.
    """
    personal = context.github_of_gists
    return context.github if isinstance(personal.credential, AppInstallation) else personal


@dataclass(frozen=True, slots=True)
class Source:
    """A source of public content that is polled.

    Attributes:
        name: The word for it in `R8SCAN_SOURCES`, in rows and in `r8scan status`.
        poll: Polls it if it is due. It runs in the pool of polls, so it must not wait for anything but the source.
        job_kinds: Kinds of the jobs that a poll may queue. The workers for these kinds are woken at once.
        droppable: By kind of job, the priorities of jobs that may be dropped when more waits than can be read.
    """

    name: str
    poll: Callable[[PollContext], PollReport]
    job_kinds: tuple[JobKind, ...]
    droppable: Mapping[JobKind, tuple[int, ...]] = field(default_factory=dict)
