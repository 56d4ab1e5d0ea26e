"""The interface of a source. `scanner.sources.registry` lists the sources."""

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
    """The objects that a poll may use, for example the database."""

    @property
    def settings(self) -> Settings: ...
    @property
    def database(self) -> Database: ...
    @property
    def github(self) -> GitHub: ...
    @property
    def github_of_gists(self) -> GitHub:
        """Return the GitHub client for listing gists. GitHub does not let an App list gists."""

    @property
    def detector(self) -> Detector: ...
    @property
    def policy(self) -> Policy: ...


def github_for_listings(context: PollContext) -> GitHub:
    """Return the GitHub client for listings of all repositories, with a personal token if there is one."""
    personal = context.github_of_gists
    # Prefer a personal token, because GitHub does not document which repositories it shows to an App.
    return context.github if isinstance(personal.credential, AppInstallation) else personal


@dataclass(frozen=True, slots=True)
class Source:
    """A source of public content that is polled.

    Attributes:
        name: The source's name in `R8SCAN_SOURCES`, in the database and in `r8scan status`.
        poll: Polls the source if it is due. It must not wait for anything except the source's answers.
        droppable: For each kind of job, the priorities of jobs that may be dropped if too many wait.
    """

    name: str
    poll: Callable[[PollContext], PollReport]
    job_kinds: tuple[JobKind, ...]
    droppable: Mapping[JobKind, tuple[int, ...]] = field(default_factory=dict)
