"""Whoever has a token may say so: it is disabled, and nothing in the answer says whether it was one of ours."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import event, func, select, update

from scanner.detection import sha256_digest
from scanner.records.database import Database
from scanner.records.models import ApiToken, Exposure, Incident, db_now
from scanner.records.sign_models import Report, RequestRate
from scanner.response.policy import Policy
from scanner.signs import possession, rates
from scanner.signs.possession import TooManyRequests, public_url
from scanner.signs.reports import BadReport
from scanner.signs.settling import Settled, settle
from scanner.tokens import sql

POLICY = Policy(operator_email="ops@vendor.example", mail_domain="vendor.example")
TRUSTED = frozenset({"github.com", "gist.github.com"})


def say(database: Database, token: str, url: str = "", client: str = "203.0.113.7") -> list[int]:
    return possession.record(database, sha256_digest, token=token, url=url, client=client, trusted_hosts=TRUSTED)


def decide(database: Database, ids: list[int]) -> Settled:
    return settle(database, ids, policy=POLICY, per_minute=0)


def test_possession_disables_and_is_never_held(database: Database, known: Callable[..., str]) -> None:
    token = known()
    assert decide(database, say(database, token)).counts == {"disabled": 1}
    with database.read() as session:
        incident = session.execute(select(Incident)).scalar_one()
        assert (incident.cause, incident.action) == ("compromise_signs", "disabled")
        assert session.execute(select(func.count()).select_from(Exposure)).scalar_one() == 0


def test_with_an_address_it_is_a_public_find(database: Database, known: Callable[..., str]) -> None:
    token = known()
    url = "https://github.com/a/b/blob/main/x.py"
    assert decide(database, say(database, token, url)).counts == {"disabled": 1}
    with database.read() as session:
        assert session.execute(select(Incident.cause)).scalar_one() == "public_repository"
        assert session.execute(select(Exposure.url)).scalar_one() == url


def test_ours_and_a_strangers_run_the_same_statements(
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


def test_the_same_word_on_the_same_day_is_written_once(database: Database, known: Callable[..., str]) -> None:
    token = known()
    decide(database, say(database, token))
    with database.write() as session:
        session.execute(update(ApiToken).values(disabled_at=None))
    assert say(database, token) == []
    assert decide(database, say(database, token, "https://github.com/a")).counts == {"disabled": 1}


def test_one_client_is_stopped_and_others_are_not(database: Database, fresh_token: Callable[[], str]) -> None:
    for _ in range(3):
        for number in range(possession.PER_CLIENT_A_MINUTE):
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
        rates.forget_old(session)
    with database.read() as session:
        assert set(session.execute(select(RequestRate.key)).scalars()) == {"203.0.113.0/24", "*"}


def test_everybody_together_is_stopped_and_a_flood_fills_no_table(database: Database) -> None:
    with database.write() as session:
        admitted = [rates.admit(session, f"10.0.{n}.0/24", per_client=5, overall=20) for n in range(100)]
    # The minute may turn once within the loop.
    assert 20 <= sum(admitted) <= 40
    with database.read() as session:
        assert session.execute(select(func.count()).select_from(RequestRate)).scalar_one() <= 42


def test_nothing_raw_stays(
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


def test_a_link_to_anywhere_else_is_kept_but_is_no_link() -> None:
    assert public_url("https://github.com/a", TRUSTED) == "https://github.com/a"
    assert public_url("https://evil.example/a.html", TRUSTED) == "hxxps://evil[.]example/a[.]html"
    assert public_url("https://github.com.evil.example/", TRUSTED).startswith("hxxps://")
    for wrong in (
        "http://github.com/",
        "https://github.com@evil.example/",
        "https://",
        "https://a b/",
        "x",
        "https://evil.example\\@github.com/",
    ):
        with pytest.raises(BadReport):
            public_url(wrong, TRUSTED)


@given(st.text(max_size=300) | st.text(alphabet="https:/.@[]x?#%", max_size=60).map(lambda text: f"https://{text}"))
def test_any_address_is_kept_harmless_or_refused(text: str) -> None:
    try:
        kept = public_url(text, TRUSTED)
    except BadReport:
        return
    assert not kept or kept.startswith(("hxxps://", "https://github.com", "https://gist.github.com"))


def test_what_is_no_token_reaches_no_table(database: Database, fresh_token: Callable[[], str]) -> None:
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
