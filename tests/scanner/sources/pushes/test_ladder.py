"""Tests of the plans for fetching a push from a git server. Each plan must find the tokens that it promises to find.

The pushes are of every kind, for example force pushes, merges and tags. Each version of a file has a different token.
"""

from __future__ import annotations

import secrets
import string
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from scanner.detection import Detector, sha256_digest
from scanner.detection.git.packs import PackLimits
from scanner.github import git_protocol
from scanner.github.client import GitHub, connect
from scanner.sources.pushes.push import Push, PushReading
from scanner.sources.pushes.reading import read_push
from scanner.sources.pushes.tips import RememberedTips, Tip
from workers.sandbox import git_backend, github_server
from workers.sandbox.git_backend import git
from workers.sandbox.github import SandboxGitHub

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
OLD_COMMITS = 14
ZEROS = "0" * 40


@dataclass
class Story:
    """A working copy of a repository. A test first commits the content before a push, and then the push's content."""

    path: Path
    tokens: dict[str, str] = field(default_factory=dict)
    """Where each token was committed, by digest, with the values of `Pushed.tokens`."""

    def commit(self, count: int = 1, *, days: float = 0, where: str = "main") -> None:
        for _ in range(count):
            token = "r8_" + "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(37))
            self.tokens[sha256_digest(token.encode())] = where
            (self.path / f"f{len(self.tokens)}.py").write_text(f"t = '{token}'\n")
            self.git("add", "-A")
            self.git("commit", "-qm", "x", days=days)

    def git(self, *arguments: str, days: float = 0) -> None:
        at = f"{NOW - timedelta(days=days):%Y-%m-%dT%H:%M:%SZ}"
        person = {f"GIT_{who}_{what}": "ana@x.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        git(*arguments, cwd=self.path, env={**person, "GIT_AUTHOR_DATE": at, "GIT_COMMITTER_DATE": at})

    def orphan(self, name: str) -> None:
        self.git("checkout", "-q", "--orphan", name)
        self.git("rm", "-rfq", ".")


def normal(story: Story) -> None:
    story.commit(2)


def offline_for_days(story: Story) -> None:
    story.commit(3, days=3)


def offline_for_weeks(story: Story) -> None:
    story.commit(3, days=20)


def old_dated_tip(story: Story) -> None:
    story.commit(1, days=700)


def branch_from_an_old_commit(story: Story) -> None:
    story.git("checkout", "-q", "-b", "topic", "main~8")
    story.commit(2, where="other")


def force_push_of_an_amended_commit(story: Story) -> None:
    story.git("reset", "-q", "--hard", "HEAD~1")
    story.commit(1)


def force_push_of_a_rewritten_branch(story: Story) -> None:
    story.git("reset", "-q", "--hard", "HEAD~5")
    story.commit(3, days=2)


def old_history_imported_as_a_branch(story: Story) -> None:
    story.orphan("imported")
    story.commit(4, days=900, where="other")


def old_history_imported_by_a_merge(story: Story) -> None:
    story.orphan("imported")
    story.commit(4, days=900)
    story.git("checkout", "-q", "main")
    story.git("merge", "-q", "--no-edit", "--allow-unrelated-histories", "imported")
    story.git("branch", "-qD", "imported")


def long_lived_branch_merged(story: Story) -> None:
    story.git("checkout", "-q", "-b", "topic", "main~12")
    story.commit(12, days=5)
    story.git("checkout", "-q", "main")
    story.git("merge", "-q", "--no-edit", "topic")
    story.git("branch", "-qD", "topic")


def only_a_tag(story: Story) -> None:
    story.git("checkout", "-q", "--detach")
    story.commit(1, where="other")
    story.git("tag", "-a", "v1", "-m", "one")


def several_branches(story: Story) -> None:
    story.commit(1)
    for name in ("one", "two"):
        story.git("checkout", "-q", "-b", name, "main")
        story.commit(2, where="other")


def mixed_dates(story: Story) -> None:
    for days in (0, 400, 1, 30, 0):
        story.commit(1, days=days)


def future_date(story: Story) -> None:
    story.commit(2, days=-400)


def deletion(story: Story) -> None:
    story.git("branch", "-qD", "stale")


KINDS: list[Callable[[Story], None]] = [
    normal, offline_for_days, offline_for_weeks, old_dated_tip, branch_from_an_old_commit,
    force_push_of_an_amended_commit, force_push_of_a_rewritten_branch, old_history_imported_as_a_branch,
    old_history_imported_by_a_merge, long_lived_branch_merged, only_a_tag, several_branches, mixed_dates,
    future_date, deletion,
]  # fmt: skip


@dataclass(frozen=True)
class Pushed:
    """One push, as the server received it.

    Attributes:
        repository: The name of the repository.
        number: The id of the repository.
        before: The commit of each ref before the push.
        after: The commit of each ref after the push.
        tokens: Where each token was committed, by digest: "old" (before the push), "main" (on the pushed default
            branch) or "other" (only on another pushed branch or tag).
    """

    repository: str
    number: int
    before: dict[str, str]
    after: dict[str, str]
    tokens: dict[str, str]

    def known(self, *refs: str) -> RememberedTips:
        return RememberedTips(tuple(Tip(oid) for name, oid in self.before.items() if not refs or name in refs))

    def push(self, head: str = "", before: str = ZEROS, **more: str) -> Push:
        values = {"ref": "", "ref_type": "", "kind": "push", **more}
        return Push(self.repository, self.number, before, head, published_at=None, **values)  # type: ignore[arg-type]

    @property
    def tip(self) -> str:
        return self.after["refs/heads/main"]

    def tokens_in(self, *where: str) -> set[str]:
        return {digest for digest, at in self.tokens.items() if at in where}


@pytest.fixture(scope="module")
def github(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxGitHub]:
    with github_server.running(tmp_path_factory.mktemp("github"), announce_pushes=False) as github:
        yield github


@pytest.fixture(scope="module")
def reader(github: SandboxGitHub) -> Iterator[GitHub]:
    client = connect(github.api_url, github.url, None)
    yield client
    client.close()


@pytest.fixture(scope="module")
def pushes(github: SandboxGitHub, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pushed]:
    base = Story(tmp_path_factory.mktemp("base") / "work")
    git("init", "-q", "--initial-branch=main", "--template=", base.path)
    for number in range(OLD_COMMITS):
        base.commit(1, days=60 - number, where="old")
    base.git("branch", "stale", "main~3")
    return {kind.__name__: _pushed(github, base, kind) for kind in KINDS}


def _pushed(github: SandboxGitHub, base: Story, kind: Callable[[Story], None]) -> Pushed:
    repository = github.create_repository(f"ana/{kind.__name__}")
    story = Story(base.path.parent / kind.__name__, dict(base.tokens))
    git("clone", "-q", "--no-hardlinks", base.path, story.path)
    story.git("branch", "-q", "stale", "origin/stale")
    mirror = (
        "push",
        "-q",
        "--force",
        "--prune",
        str(repository.path),
        "refs/heads/*:refs/heads/*",
        "refs/tags/*:refs/tags/*",
    )
    story.git(*mirror)
    before = git_backend.refs(repository.path)
    kind(story)
    story.git(*mirror)
    return Pushed(repository.name, repository.id, before, git_backend.refs(repository.path), story.tokens)


def read(reader: GitHub, push: Push, known: RememberedTips | None = None) -> PushReading:
    reading = read_push(reader, push, Detector(), limits=PackLimits(), known=known)
    assert not reading.unread
    return reading


def found(*readings: PushReading) -> set[str]:
    return {candidate.digest for reading in readings for candidate in reading.candidates}


each_kind = pytest.mark.parametrize("kind", [kind.__name__ for kind in KINDS])


@each_kind
def test_remembered_tips_fetch_exactly_the_new_objects(
    github: SandboxGitHub, reader: GitHub, pushes: dict[str, Pushed], kind: str
) -> None:
    push = pushes[kind]
    github.requests.clear()
    reading = read(reader, push.push(), push.known())
    assert found(reading) == push.tokens_in("main", "other")
    assert reading.plan is not None
    assert (reading.plan.rung, list(reading.plan.may_miss)) == ("remembered", [])
    assert github.requests["git"] == (1 if kind == "deletion" else 2)


@each_kind
def test_an_event_fetches_all_new_objects(reader: GitHub, pushes: dict[str, Pushed], kind: str) -> None:
    case = pushes[kind]
    readings = []
    for name in case.before.keys() | case.after.keys():
        old, new = case.before.get(name, ZEROS), case.after.get(name, ZEROS)
        if old == ZEROS:
            is_tag = name.startswith("refs/tags/")
            push = case.push("", ref=name, ref_type="tag" if is_tag else "branch", kind="create")
            readings.append(read(reader, push))
        elif old != new:
            readings.append(read(reader, case.push(new, old, ref=name)))
    assert found(*readings) == case.tokens_in("main", "other")


@each_kind
def test_the_default_branch_alone_misses_other_refs_and_records_it(
    github: SandboxGitHub, reader: GitHub, pushes: dict[str, Pushed], kind: str
) -> None:
    push = pushes[kind]
    if push.tip == push.before["refs/heads/main"]:
        # The default branch has not changed, so r8scan must look for the push in the other branches and tags.
        reading = read(reader, push.push(push.tip), push.known())
        assert found(reading) == push.tokens_in("other")
        return
    github.requests.clear()
    reading = read(reader, push.push(push.tip), push.known("refs/heads/main"))
    assert found(reading) == push.tokens_in("main")
    assert reading.plan is not None
    assert (list(reading.plan.may_miss), github.requests["git"]) == (["other_refs"], 1)


@each_kind
def test_with_nothing_known_the_newest_commits_of_the_default_branch_are_read(
    reader: GitHub, pushes: dict[str, Pushed], kind: str
) -> None:
    push = pushes[kind]
    reading = read(reader, push.push(push.tip))
    assert reading.plan is not None
    assert (reading.plan.rung, list(reading.plan.may_miss)) == ("boundary", ["other_refs", "older_commits"])
    assert found(reading) >= push.tokens_in("main")
    assert len(found(reading) & push.tokens_in("old")) < OLD_COMMITS, "not the whole history"


def test_more_commits_than_the_boundary_are_missed_and_counted(
    github: SandboxGitHub, reader: GitHub, pushes: dict[str, Pushed]
) -> None:
    push = pushes["normal"]
    github.requests.clear()
    reading = read(reader, push.push(push.tip))
    assert len(found(reading)) == 10
    assert github.requests["git"] == 2


@pytest.mark.parametrize("changes", [{"is_new": True}, {"size_kb": 12}])
def test_a_new_or_small_repository_is_read_whole_by_one_request(
    github: SandboxGitHub, reader: GitHub, pushes: dict[str, Pushed], changes: dict[str, bool | int]
) -> None:
    case = pushes["several_branches"]
    push = case.push(case.tip)
    github.requests.clear()
    new = replace(push, **changes)  # type: ignore[arg-type]  # values of different types
    reading = read(reader, new)
    assert found(reading) == case.tokens_in("old", "main")
    assert reading.tips is not None
    assert reading.tips.is_whole
    assert github.requests["git"] == 1
    assert reading.plan is not None
    # The plan must not list the other branches of a new repository as missed, because a separate job reads them later.
    assert (reading.plan.reads_refs_later, list(reading.plan.may_miss)) == (
        ("is_new" in changes),
        [] if "is_new" in changes else ["other_refs"],
    )


@pytest.mark.parametrize("ref", ["refs/heads/two", "refs/heads/gone"])
def test_a_created_ref_beyond_the_end_of_the_list_is_asked_for_by_name(
    reader: GitHub, pushes: dict[str, Pushed], monkeypatch: pytest.MonkeyPatch, ref: str
) -> None:
    own = pushes["several_branches"]
    monkeypatch.setattr(git_protocol, "MAX_REFS", 1)
    push = own.push("", ref=ref, ref_type="branch", kind="create")
    reading = read_push(reader, push, Detector(), limits=PackLimits(), known=own.known())
    if ref in own.after:
        assert reading.plan is not None
        assert list(reading.plan.wants) == [own.after[ref]]
        assert not reading.unread
    else:
        assert reading.unread == {"refs_over_limit": 1}
