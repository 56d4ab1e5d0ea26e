"""Tests that r8scan reads all content that a push added to a real git server."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from starlette.responses import JSONResponse, Response

from scanner.detection import redact
from scanner.detection.git.packs import PackLimits
from scanner.github.client import GitHub
from scanner.sources.pushes.push import Push
from scanner.sources.pushes.tips import RememberedTips, Tip
from tests.scanner.sources.pushes.pushing import Make, Token, created, digest, digests, pushed, read
from workers.sandbox.github import SandboxGitHub


def test_a_file_is_found_with_path_commit_line_and_permalink(
    client: GitHub, workplace: Make, fresh_token: Token, sandbox: SandboxGitHub
) -> None:
    work, token = workplace(), fresh_token()
    work.write("README", "hello")
    before = work.commit("first")
    work.write("src/config/app.py", f"# settings\nimport os\nTOKEN = '{token}'\n")
    head = work.commit("add the app")
    work.push()
    sandbox.requests.clear()
    reading = read(client, pushed(before, head))
    (candidate,) = reading.candidates
    assert candidate.digest == digest(token)
    place = candidate.place
    assert (place.kind, place.path, place.commit, candidate.line) == ("file", "src/config/app.py", head, 3)
    assert place.url == f"{sandbox.url}/ana/app/blob/{head}/src/config/app.py#L3"
    assert reading.complete
    assert dict(sandbox.requests) == {"git": 1}, "a push costs one git request and no REST request"


def test_a_token_that_was_added_and_removed_inside_one_push_is_found_at_the_commit_that_added_it(
    client: GitHub, workplace: Make, fresh_token: Token
) -> None:
    work, token = workplace(), fresh_token()
    work.write("a.py", "x = 1\n")
    before = work.commit("first")
    work.write("a.py", f"x = '{token}'\n")
    added = work.commit("oops")
    work.write("a.py", "x = 2\n")
    head = work.commit("remove it")
    work.push()
    (candidate,) = read(client, pushed(before, head)).candidates
    assert (candidate.digest, candidate.place.commit) == (digest(token), added)


def test_messages_names_of_authors_and_tags_are_read(client: GitHub, workplace: Make, fresh_token: Token) -> None:
    in_message, in_author, in_tag, in_path = (fresh_token() for _ in range(4))
    work = workplace(author=f"{in_author} <ana@example.com>")
    before = work.commit("first")
    work.write(f"dir/{in_path}.txt", "nothing")
    head = work.commit(f"use {in_message}")
    work.git("tag", "-a", "v1", "-m", f"release {in_tag}")
    work.push("HEAD", "v1")
    reading = read(client, pushed(before, head))
    found = {candidate.digest: candidate.place for candidate in reading.candidates}
    assert found[digest(in_message)].kind == "commit"
    assert found[digest(in_author)].kind == "commit"
    assert (found[digest(in_path)].kind, found[digest(in_path)].path) == ("file_name", "dir")
    tagged = read(client, created("refs/tags/v1", "tag"))
    assert {c.place.kind for c in tagged.candidates if c.digest == digest(in_tag)} == {"tag"}
    everything = repr(reading) + repr(tagged)
    assert not [token for token in (in_message, in_author, in_tag, in_path) if token in everything]


def test_content_added_by_a_merge_is_found(client: GitHub, workplace: Make, fresh_token: Token) -> None:
    work, token = workplace(), fresh_token()
    before = work.commit("first")
    work.git("checkout", "-q", "-b", "side")
    work.write("side.txt", "s")
    work.commit("side")
    work.git("checkout", "-q", "main")
    work.write("main.txt", "m")
    work.commit("main")
    work.git("-c", "user.name=A", "-c", "user.email=a@example.com", "merge", "-q", "--no-commit", "--no-ff", "side")
    work.write("evil.txt", token)
    head = work.commit("merge")
    work.push()
    (candidate,) = read(client, pushed(before, head)).candidates
    assert (candidate.place.path, candidate.place.commit) == ("evil.txt", head)


@pytest.mark.parametrize("name", ["ä ö.txt", 'quo"te.txt', "new\nline.txt", "per%cent#.txt", "back\\slash.txt"])
def test_unusual_names_do_no_harm(client: GitHub, workplace: Make, fresh_token: Token, name: str) -> None:
    work, token = workplace(), fresh_token()
    before = work.commit("first")
    work.write(name, token)
    head = work.commit("strange")
    work.push()
    (candidate,) = read(client, pushed(before, head)).candidates
    assert candidate.place.path == name
    assert "\n" not in candidate.place.url
    assert " " not in candidate.place.url


def test_a_first_push_of_two_branches_hides_neither(client: GitHub, workplace: Make, fresh_token: Token) -> None:
    """The branch `dev` contains the commit of `main`, which the server must still send."""
    work, on_main, on_dev = workplace(), fresh_token(), fresh_token()
    work.write("main.txt", on_main)
    work.commit("main")
    work.git("checkout", "-q", "-b", "dev")
    work.write("dev.txt", on_dev)
    work.commit("dev")
    work.push("main", "dev")
    assert digests(read(client, created("refs/heads/main"))) == {digest(on_main)}
    assert digests(read(client, created("refs/heads/dev"))) == {digest(on_dev)}


def test_a_new_branch_fetches_only_objects_missing_in_the_default_branch(
    client: GitHub, workplace: Make, fresh_token: Token
) -> None:
    work, old, new = workplace(), fresh_token(), fresh_token()
    work.write("old.txt", old)
    work.commit("old")
    work.push()
    work.git("checkout", "-q", "-b", "topic")
    work.write("new.txt", new)
    tip = work.commit("new")
    work.push()
    reading = read(client, created("refs/heads/topic"))
    assert (digests(reading), reading.tip) == ({digest(new)}, tip)


def test_a_token_counts_as_public_no_earlier_than_its_commit(
    client: GitHub, workplace: Make, fresh_token: Token
) -> None:
    work = workplace()
    work.write("a", fresh_token())
    work.commit("a")
    work.push()
    long_ago = datetime(2020, 1, 1, tzinfo=UTC)
    (late,) = read(client, replace(created("refs/heads/main"), published_at=long_ago)).candidates
    assert late.place.published_at is not None
    assert late.place.published_at > long_ago


def test_a_tip_that_was_read_before_is_not_read_again(
    client: GitHub, workplace: Make, fresh_token: Token, sandbox: SandboxGitHub
) -> None:
    work = workplace()
    work.write("a", fresh_token())
    tip = work.commit("a")
    work.push()
    sandbox.requests.clear()
    reading = read(client, created("refs/heads/main"), known=RememberedTips((Tip(tip),)))
    assert (reading.candidates, reading.complete, sandbox.requests["git"]) == ([], True, 1)


def test_a_branch_whose_name_contains_a_token_is_found_by_its_redacted_name(
    client: GitHub, workplace: Make, fresh_token: Token
) -> None:
    work, in_name, inside = workplace(), fresh_token(), fresh_token()
    work.commit("first")
    work.push()
    work.git("checkout", "-q", "-b", f"use-{in_name}")
    work.write("a", inside)
    work.commit("a")
    work.push()
    reading = read(client, created(redact(f"refs/heads/use-{in_name}")))
    assert digests(reading) == {digest(inside)}
    assert in_name not in repr(reading)


def test_a_new_repository_is_read_whole_and_an_empty_one_is_skipped(
    client: GitHub, workplace: Make, fresh_token: Token
) -> None:
    work, token = workplace(), fresh_token()
    empty = read(client, created("", "repository"))
    assert (empty.candidates, empty.complete) == ([], True)
    work.write("a", token)
    work.commit("a")
    work.push()
    assert digests(read(client, created("", "repository"))) == {digest(token)}


def test_a_created_ref_that_is_gone_again_is_counted(client: GitHub, workplace: Make) -> None:
    work = workplace()
    work.commit("first")
    work.push()
    assert read(client, created("refs/heads/gone")).unread == {"ref_gone": 1}


def test_a_deletion_sends_no_request(client: GitHub, sandbox: SandboxGitHub) -> None:
    assert read(client, pushed("a" * 40, "0" * 40)).complete
    assert not sandbox.requests


def test_a_force_push_is_read_from_the_replaced_commit(client: GitHub, workplace: Make, fresh_token: Token) -> None:
    work, old, new = workplace(), fresh_token(), fresh_token()
    work.commit("first")
    work.write("a", old)
    before = work.commit("old")
    work.push()
    work.git("reset", "-q", "--hard", "HEAD~1")
    work.write("a", new)
    head = work.commit("new")
    work.push("--force", "HEAD")
    assert digests(read(client, pushed(before, head))) == {digest(new)}
    assert digest(new) in digests(read(client, pushed("f" * 40, head))), "a missing old commit hides no content"


def test_a_repository_whose_name_contains_a_token_is_requested_by_its_id(
    client: GitHub, workplace: Make, fresh_token: Token, sandbox: SandboxGitHub
) -> None:
    in_name, inside = fresh_token(), fresh_token()
    name = f"ana/{in_name}"
    work = workplace(name)
    before = work.commit("first")
    work.write("a", inside)
    head = work.commit("a")
    work.push()
    repository = sandbox.find(name)
    assert repository is not None
    reading = read(client, pushed(before, head, repository=redact(name), repository_id=repository.id))
    assert digests(reading) == {digest(inside)}
    assert in_name not in repr(reading)


def test_a_push_is_unchanged_after_it_was_stored_as_json(fresh_token: Token) -> None:
    push = pushed("a" * 40, "b" * 40)
    assert Push.from_json(push.to_json()) == push
    assert JSONResponse(push.to_json()).status_code == 200


def test_a_named_commit_is_read_before_its_ancestors(client: GitHub, workplace: Make, fresh_token: Token) -> None:
    work, old, named = workplace(), fresh_token(), fresh_token()
    for number in range(3):
        # Each file is just small enough not to be skipped as a large file.
        work.write(f"a{number}.bin", os.urandom(600 << 10))
    work.write("b.py", old)
    work.commit("first")
    work.write("z.py", named)
    head = work.commit("second")
    work.commit("and the branch goes on")
    work.push()
    commit = pushed("0" * 40, head, kind="commit")
    small = read(client, commit, PackLimits(pack_bytes=64 * 1024))
    assert digest(named) in digests(small), "the named commit is read, whatever the size of the history"
    assert not small.complete
    whole = read(client, commit)
    assert (digests(whole), whole.complete) == ({digest(old), digest(named)}, True)


@pytest.mark.parametrize("status", [403, 404, 422, 500, 503])
def test_a_commit_with_unknown_or_no_parents_is_read_at_once(
    client: GitHub, workplace: Make, fresh_token: Token, sandbox: SandboxGitHub, status: int
) -> None:
    work, token = workplace(), fresh_token()
    work.write("a.py", token)
    head = work.commit("first")
    work.push()
    assert digests(read(client, pushed("0" * 40, head, kind="commit"))) == {digest(token)}
    sandbox.faults["commit"].append(lambda: Response(status_code=status))
    assert digests(read(client, pushed("0" * 40, head, kind="commit"))) == {digest(token)}


def test_a_git_lfs_pointer_is_counted_as_unread(client: GitHub, workplace: Make) -> None:
    work = workplace()
    before = work.commit("first")
    work.write("model.bin", f"version https://git-lfs.github.com/spec/v1\noid sha256:{'a' * 64}\nsize 5\n")
    head = work.commit("a model")
    work.push()
    assert read(client, pushed(before, head)).unread == {"lfs_pointer": 1}
