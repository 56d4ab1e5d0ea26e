"""Tests that a push is read by a smaller request or the REST API if one git request fails."""

from __future__ import annotations

import os

import pytest
from starlette.responses import Response

from scanner.detection.git.packs import PackLimits
from scanner.github.client import GitHub
from scanner.github.errors import GitHubError, NotFound, RateLimited, Unavailable
from scanner.github.git_protocol import pkt_line
from tests.scanner.sources.pushes.pushing import Make, Token, created, digest, digests, pushed, read
from workers.sandbox import git_backend
from workers.sandbox.github import SandboxGitHub


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
    """Return the git server's answer to a fetch of this push, without its end."""
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
    # Git sends a file of this size in several packets, and only the last packet is cut off.
    work.write("a", os.urandom(300_000))
    head = work.commit("a")
    work.push()
    sandbox.faults["git"].extend([lambda: cut_off(sandbox, before, head), lambda: Response(status_code=404)])
    reading = read(client, pushed("0" * 40, head, kind="commit"))
    assert (reading.unread["second_request_not_found"], reading.is_cut_off) == (1, True)


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
    assert sandbox.requests["git"] == 4, (
        "one request each for the refs, the pack, the server's filters, and the pack without the blob"
    )


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
    assert sandbox.requests["git"] == 4, (
        "one request each for the pack, the refs, the server's filters, and the pack with every ref claimed"
    )
