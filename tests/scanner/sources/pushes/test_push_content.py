"""All content that a push added is read by git's protocol from a real git server."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from starlette.responses import JSONResponse, Response

from scanner.detection import Detector, redact, sha256_digest
from scanner.detection.packs import PackLimits
from scanner.github.client import GitHub
from scanner.github.errors import GitHubError, NotFound, RateLimited, Unavailable
from scanner.github.git_protocol import pkt_line
from scanner.sources.pushes.push import Push, PushReading
from scanner.sources.pushes.reading import read_push
from scanner.sources.pushes.tips import RememberedTips, Tip
from workers.sandbox import git_backend
from workers.sandbox.github import SandboxGitHub
from workers.sandbox.workplace import Workplace

LIMITS = PackLimits()
Make = Callable[..., Workplace]
Token = Callable[[], str]


def pushed(before: str, head: str, **changes: object) -> Push:
    values: dict[str, object] = {
        "repository": "ana/app",
        "repository_id": 1001,
        "before": before,
        "head": head,
        "ref": "refs/heads/main",
        "ref_type": "",
        "published_at": None,
        "kind": "push",
    }
    return Push(**(values | changes))  # type: ignore[arg-type]  # a mix of types by name


def created(ref: str, ref_type: str = "branch") -> Push:
    return pushed("0" * 40, "", ref=ref, ref_type=ref_type, kind="create")


def read(client: GitHub, push: Push, limits: PackLimits = LIMITS, **options: object) -> PushReading:
    return read_push(client, push, Detector(), limits=limits, **options)  # type: ignore[arg-type]


def digests(reading: PushReading) -> set[str]:
    return {candidate.digest for candidate in reading.candidates}


def digest(token: str) -> str:
    return sha256_digest(token.encode())


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
    assert dict(sandbox.requests) == {"git": 1}, "a push costs one request of git's, and none of the REST API's"


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
    """Both branches come from the same push.

    If each were claimed as known when reading the other, the server would send nothing.
    """
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


def test_what_was_pushed_after_a_branch_was_created_was_not_public_before_it_was_committed(
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


def test_a_branch_whose_name_holds_a_token_is_found_by_its_redacted_name(
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
    assert digest(new) in digests(read(client, pushed("f" * 40, head))), "an old end that is gone hides nothing"


@pytest.mark.parametrize("allow_filter", [True, False])
def test_a_push_over_the_limit_is_read_in_part_and_recorded_as_partial(
    client: GitHub, workplace: Make, fresh_token: Token, sandbox: SandboxGitHub, allow_filter: bool
) -> None:
    sandbox.allow_filter = allow_filter
    work, token = workplace(), fresh_token()
    before = work.commit("first")
    work.write("a-large.bin", os.urandom(3 * 1024 * 1024))
    work.write("z-small.txt", token)
    head = work.commit("large")
    work.push()
    reading = read(client, pushed(before, head), PackLimits(pack_bytes=1024 * 1024))
    assert not reading.complete
    assert reading.unread["pack_over_limit"] >= 1
    if allow_filter:
        assert digests(reading) == {digest(token)}
        assert reading.unread["blobs_over_1048576_bytes"] == 1


def test_a_push_refused_by_git_is_read_by_the_rest_api(
    client: GitHub, workplace: Make, fresh_token: Token, sandbox: SandboxGitHub
) -> None:
    work, token = workplace(), fresh_token()
    work.write("a.py", "one\n" * 50)
    before = work.commit("first")
    work.write("a.py", "one\n" * 50 + f"t = '{token}'\n")
    head = work.commit("use it")
    work.push()
    sandbox.faults["git"].append(lambda: Response(b"0010ERR no way\n0000", media_type="application/x-git"))
    reading = read(client, pushed(before, head))
    (candidate,) = reading.candidates
    assert (candidate.digest, candidate.place.path, candidate.line) == (digest(token), "a.py", 51)
    assert reading.unread["read_by_rest"] == 1


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Response("gone", status_code=404), NotFound),
        (Response("blocked", status_code=451), NotFound),
        (Response("private", status_code=401), NotFound),
        (Response("slow down", status_code=429, headers={"retry-after": "9"}), RateLimited),
        (Response("oops", status_code=500), Unavailable),
        (Response("oops", status_code=503), Unavailable),
        (Response(b"0033cut", status_code=200), Unavailable),
    ],
)
def test_each_answer_of_git_has_a_reason(
    client: GitHub, workplace: Make, sandbox: SandboxGitHub, answer: Response, error: type[GitHubError]
) -> None:
    workplace()
    sandbox.faults["git"].append(lambda: answer)
    with pytest.raises(error) as caught:
        read(client, pushed("a" * 40, "b" * 40))
    assert "\n" not in str(caught.value)


def cut_off(sandbox: SandboxGitHub, before: str, head: str) -> Response:
    """Return git's answer with its end cut off."""
    repository = sandbox.find("ana/app")
    assert repository is not None
    asked = [
        b"command=fetch",
        b"",
        b"no-progress",
        b"ofs-delta",
        f"want {head}".encode(),
        f"have {before}".encode(),
        b"done",
    ]
    whole = git_backend.backend(
        repository.path,
        method="POST",
        suffix="/git-upload-pack",
        query="",
        content_type="application/x-git-upload-pack-request",
        protocol="version=2",
        encoding="",
        body=b"".join(pkt_line(line) if line else b"0001" for line in asked) + b"0000",
    )
    return Response(whole.body[: len(whole.body) - 40])


def test_a_truncated_pack_is_scanned_and_requested_again(
    client: GitHub, workplace: Make, fresh_token: Token, sandbox: SandboxGitHub
) -> None:
    work = workplace()
    before = work.commit("first")
    work.write("a", fresh_token())
    head = work.commit("a")
    work.push()
    sandbox.faults["git"].append(lambda: cut_off(sandbox, before, head))
    reading = read(client, pushed(before, head))
    assert reading.is_cut_off
    assert not reading.complete


def test_a_truncated_pack_is_requested_again_even_if_a_later_request_is_empty(
    client: GitHub, workplace: Make, sandbox: SandboxGitHub
) -> None:
    work = workplace()
    before = work.commit("first")
    # so much takes several lines of git's answer, of which only the last one is lost
    work.write("a", os.urandom(300_000))
    head = work.commit("a")
    work.push()
    sandbox.faults["git"].extend([lambda: cut_off(sandbox, before, head), lambda: Response(status_code=404)])
    reading = read(client, pushed("0" * 40, head, kind="commit"))
    assert (reading.unread["second_request_not_found"], reading.is_cut_off) == (1, True)


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


def test_a_push_survives_json(fresh_token: Token) -> None:
    push = pushed("a" * 40, "b" * 40)
    assert Push.from_json(push.to_json()) == push
    assert JSONResponse(push.to_json()).status_code == 200


@pytest.mark.parametrize("status", [406, 500])
def test_commits_that_the_rest_api_cannot_compare_are_read_one_by_one(
    client: GitHub, workplace: Make, fresh_token: Token, sandbox: SandboxGitHub, status: int
) -> None:
    work, token, old = workplace(), fresh_token(), fresh_token()
    work.write("old.py", old)
    before = work.commit("first")
    work.write("a.py", f"x = '{token}'\n")
    added = work.commit("oops")
    work.write("a.py", "x = 2\n")
    head = work.commit("remove it")
    work.push()
    sandbox.faults["git"].append(lambda: Response(b"0010ERR no way\n0000", media_type="application/x-git"))
    sandbox.faults["compare"].append(lambda: Response(status_code=status))
    reading = read(client, pushed(before, head))
    (candidate,) = reading.candidates
    assert (candidate.digest, candidate.place.commit) == (digest(token), added)
    assert candidate.place.url.endswith(f"/blob/{added}/a.py#L1")
    assert reading.unread == {"read_by_rest": 1}


def test_too_many_single_commits_are_counted(
    client: GitHub, workplace: Make, sandbox: SandboxGitHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scanner.github.compare.MAX_SINGLE", 2)
    work = workplace()
    before, *_, head = (work.commit(str(number)) for number in range(4))
    work.push()
    sandbox.faults["git"].append(lambda: Response(b"0010ERR no way\n0000", media_type="application/x-git"))
    sandbox.faults["compare"].append(lambda: Response(status_code=406))
    assert read(client, pushed(before, head)).unread["commits_over_limit"] == 1


def test_a_named_commit_is_read_before_its_ancestors(client: GitHub, workplace: Make, fresh_token: Token) -> None:
    work, old, named = workplace(), fresh_token(), fresh_token()
    for number in range(3):
        work.write(f"a{number}.bin", os.urandom(600 << 10))  # each file is too small to be left out as a large blob
    work.write("b.py", old)
    work.commit("first")
    work.write("z.py", named)
    head = work.commit("second")
    work.commit("and the branch goes on")
    work.push()
    commit = pushed("0" * 40, head, kind="commit")
    small = read(client, commit, PackLimits(pack_bytes=64 * 1024))
    assert digest(named) in digests(small), "however large its history is"
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


def test_a_rate_limit_on_the_request_for_parents_is_waited_for(
    client: GitHub, workplace: Make, sandbox: SandboxGitHub
) -> None:
    work = workplace()
    head = work.commit("first")
    work.push()
    sandbox.faults["commit"].append(lambda: Response(status_code=429))
    with pytest.raises(RateLimited) as caught:
        read(client, pushed("0" * 40, head, kind="commit"))
    assert caught.value.asked
    with pytest.raises(RateLimited) as caught:
        read(client, pushed("0" * 40, head, kind="commit"))
    assert not caught.value.asked


def test_a_git_lfs_pointer_is_counted_as_unread(client: GitHub, workplace: Make) -> None:
    work = workplace()
    before = work.commit("first")
    work.write("model.bin", f"version https://git-lfs.github.com/spec/v1\noid sha256:{'a' * 64}\nsize 5\n")
    head = work.commit("a model")
    work.push()
    assert read(client, pushed(before, head)).unread == {"lfs_pointer": 1}


@pytest.mark.parametrize("merged", [False, True])
def test_a_large_push_is_read_although_its_branch_has_moved_on(
    client: GitHub, workplace: Make, fresh_token: Token, merged: bool
) -> None:
    work, token = workplace(), fresh_token()
    before = work.commit("first")
    work.write("a.bin", os.urandom(3 << 20))
    work.write("z.py", token)
    head = work.commit("second")
    work.commit("and the branch goes on")
    work.push()
    if merged:
        work.git("branch", "release")
        work.push("release")
    reading = read(client, pushed(before, head), PackLimits(pack_bytes=1024 * 1024))
    assert digests(reading) == {digest(token)}
    assert not reading.complete


def test_a_received_large_tag_is_not_requested_again(
    client: GitHub, workplace: Make, fresh_token: Token, sandbox: SandboxGitHub
) -> None:
    work, token = workplace(), fresh_token()
    work.commit("first")
    work.git("branch", "side")
    work.git("checkout", "-q", "--detach")
    work.write("a.bin", os.urandom(3 << 20))
    work.write("z.py", token)
    work.commit("large")
    work.git("tag", "-a", "v1", "-m", "release")
    work.git("checkout", "-q", "side")
    work.commit("aside")
    work.push("main")
    work.push("side", "v1")
    sandbox.requests.clear()
    reading = read(client, created("refs/tags/v1", "tag"), PackLimits(pack_bytes=1024 * 1024))
    assert digests(reading) == {digest(token)}
    assert sandbox.requests["git"] == 4, "the refs, the pack, what the server can filter, and the pack without the blob"


def test_without_a_filter_the_first_request_is_not_repeated(
    client: GitHub, workplace: Make, sandbox: SandboxGitHub
) -> None:
    sandbox.allow_filter = False
    work = workplace()
    before = work.commit("first")
    work.write("a.bin", os.urandom(3 << 20))
    head = work.commit("second")
    work.commit("and the branch goes on")
    work.git("branch", "release")
    work.push("HEAD", "release")
    sandbox.requests.clear()
    assert not read(client, pushed(before, head), PackLimits(pack_bytes=1024 * 1024)).complete
    assert sandbox.requests["git"] == 4, "the pack, the refs, what the server can filter, and with every ref claimed"
