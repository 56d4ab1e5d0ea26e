"""Tests for the client of git's protocol, also with hostile servers."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import RedirectResponse, Response

from scanner.detection.git.packs import PackLimits, read_pack
from scanner.github import git_protocol
from scanner.github.client import GitHub, connect, get_json
from scanner.github.errors import BadCredential, Forbidden, GitHubError, Malformed, RateLimited, Unavailable
from scanner.github.git_protocol import ReceivedPack, can_filter, fetch, list_refs, pkt_line, pkt_lines
from workers.sandbox.github import SandboxGitHub
from workers.sandbox.workplace import Workplace

MAX_BYTES = 1 << 20


def chunks(content: bytes, size: int) -> Iterator[bytes]:
    return (content[at : at + size] for at in range(0, len(content), size))


@given(st.lists(st.binary(max_size=200), max_size=10), st.integers(1, 50))
def test_lines_are_complete_whatever_the_sizes_of_the_received_pieces(contents: list[bytes], size: int) -> None:
    stream = b"".join(map(pkt_line, contents)) + b"0000"
    assert [line for line in pkt_lines(chunks(stream, size)) if isinstance(line, bytes)] == contents


@given(st.binary(max_size=300), st.integers(1, 50))
def test_no_stream_raises_an_exception_other_than_our_own(content: bytes, size: int) -> None:
    with contextlib.suppress(Malformed, Unavailable):
        list(pkt_lines(chunks(content, size)))


def test_refs_and_the_default_branch_are_listed(
    client: GitHub, sandbox: SandboxGitHub, workplace: Callable[..., Workplace]
) -> None:
    work = workplace()
    assert list_refs(client, "ana/app").oids == {}
    first = work.commit("first")
    work.git("tag", "-a", "v1", "-m", "one")
    work.push("HEAD", "v1")
    refs = list_refs(client, "ana/app")
    assert refs.head == "refs/heads/main"
    assert refs.oids["refs/heads/main"] == first
    assert refs.oids["refs/tags/v1"] != first
    assert not refs.is_truncated


def test_refs_of_pull_requests_do_not_displace_tags_from_the_list(
    client: GitHub, sandbox: SandboxGitHub, workplace: Callable[..., Workplace], monkeypatch: pytest.MonkeyPatch
) -> None:
    work = workplace()
    head = work.commit("first")
    work.git("tag", "v1")
    work.push("HEAD", "v1", *(f"HEAD:refs/pull/{number}/head" for number in range(5)))
    monkeypatch.setattr(git_protocol, "MAX_REFS", 3)
    refs = list_refs(client, "ana/app")
    assert refs.oids == {"refs/heads/main": head, "refs/tags/v1": head}
    assert (refs.head, refs.is_truncated) == ("refs/heads/main", False)


def test_refs_above_the_limit_are_left_out_and_counted(
    client: GitHub, workplace: Callable[..., Workplace], monkeypatch: pytest.MonkeyPatch
) -> None:
    work = workplace()
    work.commit("first")
    for number in range(5):
        work.git("branch", f"b{number}")
    work.push("--all")
    monkeypatch.setattr(git_protocol, "MAX_REFS", 3)
    refs = list_refs(client, "ana/app")
    assert (len(refs.oids), refs.is_truncated) == (3, True)


@pytest.mark.parametrize("allowed", [True, False])
def test_a_server_is_asked_whether_it_can_filter(
    client: GitHub, sandbox: SandboxGitHub, workplace: Callable[..., Workplace], allowed: bool
) -> None:
    sandbox.allow_filter = allowed
    workplace()
    assert can_filter(client, "ana/app") is allowed


def test_a_renamed_repository_is_followed(
    client: GitHub, sandbox: SandboxGitHub, workplace: Callable[..., Workplace]
) -> None:
    work = workplace("ana/new")
    head = work.commit("first")
    work.push()
    sandbox.renamed["ana/old"] = "ana/new"
    assert list_refs(client, "ana/old").oids == {"refs/heads/main": head}
    pack = fetch(client, "ana/old", [head], [], max_bytes=MAX_BYTES)
    assert {item.oid for item in read_pack(pack.content, PackLimits()) if item.type == "commit"} == {head}


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Response(b"<html>hello</html>", media_type="text/html"), Malformed),
        (Response(b""), Malformed),
        (Response(b"0000"), Malformed),
        (Response(pkt_line(b"ERR upload-pack: not our ref")), Malformed),
        (Response(pkt_line(b"shallow-info\n") + b"0001"), Malformed),
        (Response(b"fff0short"), Unavailable),
        (Response(b"no", status_code=403), Forbidden),
        (Response(b"no", status_code=502), Unavailable),
        (RedirectResponse("https://evil.example/x.git/git-upload-pack", status_code=307), Malformed),
    ],
)
def test_each_answer_without_a_pack_has_a_reason(
    client: GitHub,
    sandbox: SandboxGitHub,
    workplace: Callable[..., Workplace],
    answer: Response,
    error: type[GitHubError],
) -> None:
    workplace()
    sandbox.faults["git"].append(lambda: answer)
    with pytest.raises(error) as caught:
        fetch(client, "ana/app", ["a" * 40], [], max_bytes=MAX_BYTES)
    assert "not our ref" not in str(caught.value)


def test_the_error_about_a_rejected_credential_does_not_contain_it(
    sandbox: SandboxGitHub, workplace: Callable[..., Workplace]
) -> None:
    workplace()
    client = connect(sandbox.api_url, sandbox.url, "the-secret")
    sandbox.faults["git"].append(lambda: Response(status_code=401))
    with pytest.raises(Unavailable):
        # The refusal may concern only one repository, so other requests to the host are allowed.
        list_refs(client, "ana/app")
    sandbox.credential = "another"
    with pytest.raises(BadCredential):
        get_json(client, f"{client.api_url}/events", expected=list)
    with pytest.raises(BadCredential) as caught:
        list_refs(client, "ana/app")
    assert "R8SCAN_GITHUB_TOKEN" in str(caught.value)
    assert "the-secret" not in repr(caught.value) + repr(client)
    client.close()


def test_all_parts_of_an_exchange_share_one_deadline(
    client: GitHub, workplace: Callable[..., Workplace], monkeypatch: pytest.MonkeyPatch
) -> None:
    work = workplace()
    work.commit("first")
    work.push()
    monkeypatch.setattr(git_protocol, "EXCHANGE_SECONDS", -1.0)
    with pytest.raises(Unavailable, match="longer"):
        list_refs(client, "ana/app")


def test_sections_before_the_pack_are_skipped(
    client: GitHub, sandbox: SandboxGitHub, workplace: Callable[..., Workplace]
) -> None:
    workplace()
    body = b"PACK\0\0\0\2\0\0\0\0"
    body += hashlib.sha1(body).digest()
    stream = pkt_line(b"shallow-info\n") + b"0001" + pkt_line(b"packfile\n")
    stream += pkt_line(b"\x02Counting objects\n") + pkt_line(b"\x01" + body) + b"0000"
    sandbox.faults["git"].append(lambda: Response(stream))
    assert fetch(client, "ana/app", ["a" * 40], [], max_bytes=MAX_BYTES) == ReceivedPack(body, "sha1")


def test_an_error_in_the_side_band_ends_the_pack(
    client: GitHub, sandbox: SandboxGitHub, workplace: Callable[..., Workplace]
) -> None:
    workplace()
    stream = pkt_line(b"packfile\n") + pkt_line(b"\x01PACK") + pkt_line(b"\x03fatal: out of memory") + b"0000"
    sandbox.faults["git"].append(lambda: Response(stream))
    pack = fetch(client, "ana/app", ["a" * 40], [], max_bytes=MAX_BYTES)
    assert read_pack(pack.content, PackLimits()).unread == {"pack_truncated": 1}


def test_no_more_of_a_pack_is_received_than_the_limit_and_the_line_that_exceeds_it(
    client: GitHub, sandbox: SandboxGitHub, workplace: Callable[..., Workplace]
) -> None:
    workplace()
    stream = pkt_line(b"packfile\n") + pkt_line(b"\x01PACK" + bytes(96)) * 50 + b"0000"
    sandbox.faults["git"].append(lambda: Response(stream))
    assert len(fetch(client, "ana/app", ["a" * 40], [], max_bytes=250).content) == 300


@pytest.mark.parametrize("ask", [lambda api: list_refs(api, "ana/app"), lambda api: can_filter(api, "ana/app")])
def test_a_throttle_with_status_200_is_a_limit_of_git_that_every_request_obeys(
    client: GitHub, sandbox: SandboxGitHub, workplace: Callable[..., Workplace], ask: Callable[[GitHub], object]
) -> None:
    workplace()
    sandbox.git_limit = 0
    with pytest.raises(RateLimited) as caught:
        ask(client)
    assert (caught.value.asked, caught.value.retry_after) == (True, git_protocol.PAUSE_SECONDS)
    sandbox.git_limit = None
    with pytest.raises(RateLimited) as caught:
        fetch(client, "ana/app", ["a" * 40], [], max_bytes=MAX_BYTES)
    assert not caught.value.asked


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Response(b"busy", headers={"x-github-edge-message": "limited"}), RateLimited),
        (Response(b"busy", 403, headers={"x-github-edge-message": "limited"}), RateLimited),
        (Response(b"busy", 503, headers={"x-github-edge-message": "limited"}), RateLimited),
        (Response(b"busy", 403), Forbidden),
        (Response(pkt_line(b"ERR this request was rate-limited due to too many requests")), RateLimited),
        (Response(pkt_line(b"ERR repository ana/too-many-requests-rate-limit not found")), Malformed),
    ],
)
def test_only_githubs_own_messages_mean_a_limit(
    client: GitHub,
    sandbox: SandboxGitHub,
    workplace: Callable[..., Workplace],
    answer: Response,
    error: type[GitHubError],
) -> None:
    workplace()
    sandbox.faults["git"].append(lambda: answer)
    with pytest.raises(error):
        fetch(client, "ana/app", ["a" * 40], [], max_bytes=MAX_BYTES)
