"""Tests that a real token in a report is disabled, and that the answer does not reveal that it was real."""

from __future__ import annotations

import io
from collections.abc import Callable
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import event, func, select, update

from scanner.compromise import possession, rates
from scanner.compromise.possession import FoundToken, TooManyRequests, public_url
from scanner.compromise.reports import BadReport
from scanner.compromise.settling import Settled, settle
from scanner.detection import sha256_digest
from scanner.permalinks import is_permalink
from scanner.records.compromise_models import Report, RequestRate
from scanner.records.database import Database
from scanner.records.models import ApiToken, Exposure, Incident, db_now
from scanner.response.policy import Policy
from scanner.tokens import sql

POLICY = Policy(operator_email="ops@vendor.example", mail_domain="vendor.example")
WEB = "https://github.com"
PERMALINK = f"{WEB}/a/b/blob/{'c' * 40}/x.py"


def say(database: Database, token: str, url: str = "", client: str = "203.0.113.7") -> list[int]:
    return possession.record(database, sha256_digest, [FoundToken(token, url)], client=client, web_url=WEB)


def decide(database: Database, ids: list[int]) -> Settled:
    return settle(database, ids, policy=POLICY, per_minute=0)


def test_a_report_by_possession_disables_its_token_and_is_never_held(
    database: Database, known: Callable[..., str]
) -> None:
    token = known()
    assert decide(database, say(database, token)).counts == {"disabled": 1}
    with database.read() as session:
        incident = session.execute(select(Incident)).scalar_one()
        assert (incident.cause, incident.action) == ("compromise_signs", "disabled")
        assert session.execute(select(func.count()).select_from(Exposure)).scalar_one() == 0


def test_a_report_by_possession_with_an_address_is_a_public_find(database: Database, known: Callable[..., str]) -> None:
    token = known()
    assert decide(database, say(database, token, PERMALINK)).counts == {"disabled": 1}
    with database.read() as session:
        assert session.execute(select(Incident.cause)).scalar_one() == "public_repository"
        assert session.execute(select(Exposure.url)).scalar_one() == PERMALINK


def test_reports_of_real_and_of_invented_tokens_run_the_same_statements(
    database: Database, known: Callable[..., str], fresh_token: Callable[[], str]
) -> None:
    seen: list[str] = []

    def note(*arguments: object) -> None:
        seen.append(str(arguments[2]))

    event.listen(database.engine, "before_cursor_execute", note)
    runs = []
    for token in (known(), fresh_token(), known()):
        seen.clear()
        assert len(say(database, token)) == 1
        runs.append(list(seen))
    assert runs[0]
    assert runs[1] == runs[2] != []


def test_a_repeated_report_of_the_same_day_is_recorded_once(database: Database, known: Callable[..., str]) -> None:
    token = known()
    decide(database, say(database, token))
    with database.write() as session:
        session.execute(update(ApiToken).values(disabled_at=None))
    assert say(database, token) == []
    assert decide(database, say(database, token, "https://github.com/a")).counts == {"disabled": 1}


def test_a_client_above_its_limit_is_refused_and_others_are_not(
    database: Database, fresh_token: Callable[[], str]
) -> None:
    for _ in range(3):
        for number in range(possession.MAX_PER_CLIENT_PER_MINUTE):
            try:
                say(database, fresh_token(), client=f"203.0.113.{number}")
            except TooManyRequests:
                break
        else:
            continue
        break
    else:
        pytest.fail("nobody was stopped")
    say(database, fresh_token(), client="198.51.100.1")
    with database.write() as session:
        session.execute(update(RequestRate).values(minute=db_now(-3700)))
    say(database, fresh_token(), client="203.0.113.1")
    with database.write() as session:
        rates.purge_expired(session)
    with database.read() as session:
        assert set(session.execute(select(RequestRate.key)).scalars()) == {"203.0.113.0/24", "*"}


def test_the_overall_limit_refuses_requests_and_a_flood_fills_no_table(database: Database) -> None:
    with database.write() as session:
        admitted = [rates.admit(session, f"10.0.{n}.0/24", per_client=5, overall=20) for n in range(100)]
    # In one minute, the server admits 40 of these requests. If a new minute begins during the loop, it admits up to 80.
    assert 40 <= sum(admitted) <= 80
    with database.read() as session:
        assert session.execute(select(func.count()).select_from(RequestRate)).scalar_one() <= 82


def test_no_raw_token_is_stored(
    database: Database, known: Callable[..., str], dump: Callable[[], str], logged: io.StringIO
) -> None:
    token, other = known(), known()
    decide(database, say(database, token, f"https://paste.example/{other}?x={token}"))
    with pytest.raises(BadReport) as refused:
        say(database, token + "x")
    everywhere = dump() + logged.getvalue() + str(refused.value)
    assert sha256_digest(token.encode()) in everywhere
    for raw in (token, other):
        assert raw[8:30] not in everywhere
    with database.read() as session:
        assert sql.look_up(session, [sha256_digest(other.encode())]).popitem()[1].disabled_at is None


def test_an_address_elsewhere_is_kept_but_not_linked() -> None:
    for permalink in (
        PERMALINK,
        f"{PERMALINK}#L3-L7",
        f"{WEB}/a/b/commit/{'c' * 40}",
        "https://gist.github.com/a/0a1b",
    ):
        assert public_url(permalink, WEB) == permalink
    assert public_url("https://evil.example/a.html", WEB) == "hxxps[:]//evil[.]example/a[.]html"
    for other in (
        "https://github.com/a",
        "https://github.com.evil.example/",
        f"{PERMALINK}?x=1",
        f"{PERMALINK}#L3%20evil",
        PERMALINK.replace("github.com", "github.com:8443"),
        PERMALINK.replace("github.com", "github.com:443"),
        PERMALINK.replace("x.py", "../../../../login"),
        PERMALINK.replace("x.py", "%2e%2E/%2e%2e/login"),
        f"{WEB}/a/b/blob/main/x.py",
        f"{WEB}/login/oauth/authorize",
        f"{WEB}/a/b/issues/7",
    ):
        assert public_url(other, WEB).startswith("hxxps[:]//")
    for wrong in (
        "http://github.com/",
        "https://github.com@evil.example/",
        "https://",
        "https://a b/",
        "x",
        "https://evil.example\\@github.com/",
    ):
        with pytest.raises(BadReport):
            public_url(wrong, WEB)


@given(st.text(max_size=300) | st.text(alphabet="https:/.@[]x?#%", max_size=60).map(lambda text: f"https://{text}"))
def test_any_address_is_kept_harmless_or_refused(text: str) -> None:
    try:
        kept = public_url(text, WEB)
    except BadReport:
        return
    assert not kept or kept.startswith("hxxps[:]//") or is_permalink(WEB, kept)


def test_a_token_in_an_address_is_not_kept_however_often_it_is_encoded(fresh_token: Callable[[], str]) -> None:
    token = fresh_token()
    for layers in range(6):
        written = token
        for _ in range(layers):
            written = "".join(f"%{ord(letter):02x}" if letter != "%" else "%25" for letter in written)[: 300 * 3]
        kept = public_url(f"https://paste.example/{written}", WEB)
        for _ in range(7):
            assert token not in kept
            kept = unquote(kept)


def test_one_request_may_report_many_tokens_and_a_malformed_one_affects_no_other(
    database: Database, known: Callable[..., str], fresh_token: Callable[[], str]
) -> None:
    ours = [known() for _ in range(3)]
    found = [FoundToken(token) for token in (*ours, fresh_token(), "r8_short", "\ud800")]
    found += [FoundToken(fresh_token(), "javascript:alert(1)")]
    ids = possession.record(database, sha256_digest, found, client="203.0.113.7", web_url=WEB)
    assert decide(database, ids).counts == {"disabled": 3, "unknown": 1}


def test_new_networks_are_admitted_after_others_used_up_the_overall_limit(database: Database) -> None:
    with database.write() as session:
        for number in range(6):
            for _ in range(10):
                rates.admit(session, f"10.0.{number}.0/24", per_client=10, overall=20)
        assert rates.admit(session, "192.0.2.0/24", per_client=10, overall=20)
        assert not rates.admit(session, "192.0.2.0/24", per_client=10, overall=20)


def test_a_malformed_token_reaches_no_table(database: Database, fresh_token: Callable[[], str]) -> None:
    token = fresh_token()
    for text in ("", "r8_", token[:-1], f"{token}a", f"{token} {token}", sha256_digest(token.encode()), "\0" * 40):
        with pytest.raises(BadReport):
            say(database, text)
    with database.read() as session:
        for model in (Report, RequestRate):
            assert session.execute(select(func.count()).select_from(model)).scalar_one() == 0


def test_reports_by_possession_are_marked(database: Database, fresh_token: Callable[[], str]) -> None:
    say(database, fresh_token())
    with database.read() as session:
        report = session.execute(select(Report)).scalar_one()
        assert (report.sign, report.is_braked, report.state) == ("found_token", False, "received")
