"""Tests that a push that could not be read is retried, or given up with a reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import httpx
import pytest
from sqlalchemy import select
from starlette.responses import JSONResponse, Response

from scanner.github.client import connect, get_json
from scanner.github.errors import RateLimited
from scanner.github.git_protocol import pkt_line
from scanner.records.models import ScanJob, db_now
from scanner.sources.batches import runner as page_work
from tests.scanner.sources.pushes.scanning import Bench, Make, Token, leaked, push
from workers.sandbox.github import SandboxGitHub


def test_a_failed_push_is_retried_separately_and_delays_no_other(
    bench: Bench, workplace: Make, sandbox: SandboxGitHub, fresh_token: Token
) -> None:
    first, second = fresh_token(), fresh_token()
    digests = [bench.know(first), bench.know(second)]
    pushes = [leaked(workplace, first, "ana/one"), leaked(workplace, second, "ana/two")]
    sandbox.faults["git"].append(lambda: Response(status_code=503))
    bench.queue(*pushes)
    bench.scan()
    assert [bench.is_disabled(digest) for digest in digests].count(True) == 1
    page, retry = bench.jobs()
    assert (page.state, page.counts["error_http_503"], page.counts["retried"]) == ("done", 1, 1)
    assert len(retry.target["pushes"]) == 1
    assert not bench.has_more(), "the retry is not due yet"
    bench.make_due()
    bench.scan()
    assert all(bench.is_disabled(digest) for digest in digests)


def test_a_rate_limit_is_waited_for_as_long_as_github_asks(
    bench: Bench, workplace: Make, sandbox: SandboxGitHub
) -> None:
    sandbox.faults["git"].append(lambda: Response(status_code=429, headers={"retry-after": "1000"}))
    workplace()
    bench.queue(push("a" * 40, "b" * 40))
    bench.scan()
    with bench.database.read() as session:
        statement = select(ScanJob.id).where(ScanJob.next_attempt_at > db_now(900), ScanJob.state == "queued")
        assert session.execute(statement).first() is not None


def test_a_push_that_github_throttles_waits_and_spends_nothing_of_the_rest_api(
    bench: Bench, workplace: Make, sandbox: SandboxGitHub, fresh_token: Token
) -> None:
    token = fresh_token()
    digest = bench.know(token)
    bench.queue(leaked(workplace, token))
    sandbox.git_limit = 0
    sandbox.requests.clear()
    bench.scan()
    assert dict(sandbox.requests) == {"git": 1}
    assert [job.counts.get("error_rate_limited") for job in bench.jobs()] == [1, None]
    sandbox.git_limit = None
    bench.client = connect(sandbox.api_url, sandbox.url, None)
    bench.make_due()
    bench.scan()
    assert bench.is_disabled(digest)


def test_a_second_request_refused_by_the_gate_is_no_attempt_and_keeps_the_first_result(
    bench: Bench, workplace: Make, sandbox: SandboxGitHub, fresh_token: Token
) -> None:
    token = fresh_token()
    digest = bench.know(token)
    found = leaked(workplace, token)
    bench.queue(replace(found, before="0" * 40, kind="commit"))

    def limited_meanwhile() -> None:
        bench.client.gate.note_result(httpx.URL(sandbox.url).netloc.decode(), "git", RateLimited("rate_limited", "x"))

    sandbox.faults["git"].append(limited_meanwhile)
    bench.scan()
    assert bench.is_disabled(digest)
    (job,) = bench.jobs()
    assert (job.state, job.failures, [one["tries"] for one in job.target["pushes"]]) == ("queued", 0, [0])


def test_a_push_fails_visibly_after_eight_attempts(bench: Bench, workplace: Make, sandbox: SandboxGitHub) -> None:
    workplace()
    sandbox.faults["git"].extend([lambda: Response(status_code=500)] * 20)
    bench.queue(push("a" * 40, "b" * 40))
    for _ in range(page_work.MAX_TRIES):
        bench.make_due()
        assert bench.scan() is not None
    last = bench.jobs()[-1]
    assert (last.state, last.counts["given_up"]) == ("failed", 1)
    assert "ana/app" in str(last.error)
    bench.make_due()
    assert not bench.has_more()


def waiting(bench: Bench) -> list[tuple[int, list[int]]]:
    """Return the number of pushes in each queued job, and the number of attempts for each push."""
    found = [job.target["pushes"] for job in bench.jobs() if job.state == "queued"]
    return [(len(pushes), [one["tries"] for one in pushes]) for pushes in found]


def test_a_page_refused_by_the_gate_stays_whole_and_counts_no_attempt(
    bench: Bench, workplace: Make, sandbox: SandboxGitHub
) -> None:
    workplace()
    sandbox.faults["git"].append(lambda: Response(status_code=429, headers={"retry-after": "3000"}))
    bench.queue(push("a" * 40, "b" * 40))
    bench.scan()
    bench.queue(*(push("a" * 40, f"{number:040x}") for number in range(1, 4)))
    sandbox.requests.clear()
    for _ in range(page_work.MAX_TRIES + 2):
        bench.make_due()
        while bench.scan() is not None:
            pass
    assert sandbox.requests["git"] == 0
    assert sorted(waiting(bench)) == [(1, [1]), (3, [0, 0, 0])]


def without_git(sandbox: SandboxGitHub, answer: Callable[[], Response] | None = None) -> None:
    """Let the git server answer the next request with `answer`, or by default with an error."""
    refusal = lambda: Response(b"0010ERR no way\n0000", media_type="application/x-git")  # noqa: E731
    sandbox.faults["git"].append(answer or refusal)


def test_a_push_that_waits_for_the_rest_api_delays_no_other_push(
    bench: Bench, workplace: Make, sandbox: SandboxGitHub, fresh_token: Token
) -> None:
    tokens = [fresh_token() for _ in range(3)]
    digests = [bench.know(token) for token in tokens]
    pushes = [leaked(workplace, token, f"ana/app{n}") for n, token in enumerate(tokens)]
    sandbox.rate_limit = 1
    get_json(bench.client, f"{sandbox.api_url}/repositories/1001", expected=dict)
    without_git(sandbox)
    bench.queue(*pushes)
    bench.scan(threads=1)
    assert [bench.is_disabled(digest) for digest in digests] == [False, True, True]
    assert waiting(bench) == [(1, [0])]


def test_pushes_waiting_for_different_budgets_wait_separately(
    bench: Bench, workplace: Make, sandbox: SandboxGitHub
) -> None:
    for name in ("ana/one", "ana/two", "ana/three"):
        workplace(name)
    sandbox.rate_limit = 1
    get_json(bench.client, f"{sandbox.api_url}/repositories/1001", expected=dict)
    without_git(sandbox)
    without_git(sandbox, lambda: Response(status_code=429, headers={"retry-after": "30"}))
    bench.queue(*(push("a" * 40, "b" * 40, name) for name in ("ana/one", "ana/two", "ana/three")))
    bench.scan(threads=1)
    assert sorted(waiting(bench)) == [(1, [0]), (1, [0]), (1, [1])]
    with bench.database.read() as session:
        soon = select(ScanJob.target).where(ScanJob.next_attempt_at < db_now(50), ScanJob.state == "queued")
        names = {one["repository"] for target in session.execute(soon).scalars() for one in target["pushes"]}
    assert names == {"ana/two", "ana/three"}


@pytest.mark.parametrize("status", [400, 422])
def test_a_final_error_is_not_retried(bench: Bench, workplace: Make, sandbox: SandboxGitHub, status: int) -> None:
    workplace()
    without_git(sandbox)
    sandbox.faults["compare"].append(lambda: Response(status_code=status))
    bench.queue(push("a" * 40, "b" * 40))
    bench.scan()
    (job,) = bench.jobs()
    assert (job.state, job.counts["given_up"], job.counts[f"error_http_{status}"]) == ("failed", 1, 1)


def test_a_redirect_to_an_unknown_host_is_not_retried(bench: Bench, workplace: Make, sandbox: SandboxGitHub) -> None:
    workplace()
    away = lambda: Response(status_code=302, headers={"location": "https://evil.example/"})  # noqa: E731
    without_git(sandbox, away)
    sandbox.faults["compare"].append(away)
    bench.queue(push("a" * 40, "b" * 40))
    bench.scan()
    (job,) = bench.jobs()
    assert (job.state, job.counts["error_unknown_host"]) == ("failed", 1)


BLOCKED = {"message": "Repository access blocked", "block": {"reason": "tos"}}


@pytest.mark.parametrize(
    ("by_git", "by_rest", "reason"),
    [
        (lambda: Response(b"no", status_code=403), lambda: JSONResponse(BLOCKED, status_code=403), "blocked"),
        (lambda: Response(b"Repository access blocked", status_code=403), None, "blocked"),
        (lambda: Response(b"no", status_code=403), lambda: Response(status_code=451), "blocked"),
        (None, lambda: JSONResponse({"message": "Git Repository is empty."}, status_code=409), "empty"),
    ],
)
def test_a_blocked_or_empty_repository_is_skipped_and_counted_by_reason(
    bench: Bench,
    workplace: Make,
    sandbox: SandboxGitHub,
    by_git: Callable[[], Response] | None,
    by_rest: Callable[[], Response] | None,
    reason: str,
) -> None:
    workplace()
    without_git(sandbox, by_git)
    if by_rest is not None:
        sandbox.faults["compare"].append(by_rest)
    bench.queue(push("a" * 40, "b" * 40))
    bench.scan()
    (job,) = bench.jobs()
    assert (job.state, job.counts[f"error_{reason}"], "retried" in job.counts) == ("done", 1, False)
    assert (sandbox.requests["compare"], sandbox.requests["commit"]) == (by_rest is not None, 0)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_retries_are_spread_over_time(
    bench: Bench, workplace: Make, sandbox: SandboxGitHub, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setattr(page_work, "spread", lambda seconds: seconds + 5000)
    workplace()
    sandbox.faults["git"].append(lambda: Response(status_code=status))
    bench.queue(push("a" * 40, "b" * 40))
    bench.scan()
    with bench.database.read() as session:
        late = select(ScanJob.id).where(ScanJob.next_attempt_at > db_now(4900), ScanJob.state == "queued")
        assert session.execute(late).first() is not None


def corrupt() -> Response:
    body = b"PACK\0\0\0\2\0\0\0\0" + bytes(20)
    return Response(pkt_line(b"packfile\n") + pkt_line(b"\x01" + body) + b"0000")


def test_a_corrupt_pack_is_requested_once_more(
    bench: Bench, workplace: Make, sandbox: SandboxGitHub, fresh_token: Token
) -> None:
    token = fresh_token()
    digest = bench.know(token)
    bench.queue(leaked(workplace, token))
    sandbox.faults["git"].append(corrupt)
    bench.scan()
    assert waiting(bench) == [(1, [1])]
    bench.make_due()
    bench.scan()
    assert bench.is_disabled(digest)
    assert [job.state for job in bench.jobs()] == ["done", "done"]


def test_a_pack_that_stays_corrupt_is_recorded(bench: Bench, workplace: Make, sandbox: SandboxGitHub) -> None:
    workplace()
    sandbox.faults["git"].extend([corrupt, corrupt])
    bench.queue(push("a" * 40, "b" * 40))
    bench.scan()
    bench.make_due()
    bench.scan()
    last = bench.jobs()[-1]
    assert (last.state, last.counts["unread_pack_checksum"], waiting(bench)) == ("partial", 1, [])
