"""Reports of compromise: what is given at the edge becomes a digest at once, and a row before anything is done.

This is an edge where raw tokens enter: each is hashed as it is read, and no message repeats what was given.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TextIO

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from scanner.compromise.lines import numbered_lines
from scanner.detection import Digester, redact
from scanner.detection.token_formats import described_formats, hint_of, is_token
from scanner.records.columns import insert_or_nothing
from scanner.records.compromise_models import Report
from scanner.records.database import Database
from scanner.records.models import ApiToken, db_now
from scanner.records.states import ReportState, Wanted

MAX_NOTE_LENGTH = 500
MAX_LINE_LENGTH = 1024
MAX_KEY_LENGTH = 200
ROWS_A_STATEMENT = 200
UNKNOWN_KEPT_DAYS = 30
SETTLED_KEPT_DAYS = 400

_SIGN = re.compile(r"[a-z0-9_]{1,40}")
_REPORTER = re.compile(r"[A-Za-z0-9_.@:-]{1,64}")
_DIGEST = re.compile(r"[0-9a-fA-F]{64}")


class BadReport(ValueError):
    """Why something cannot be reported, in words that go on from "it" or from a line's number; without its content."""


@dataclass(frozen=True, slots=True)
class Subject:
    """Which token a report is about. `hint` is empty where only a digest was given."""

    digest: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class NewReport:
    """A report that can be recorded: checked, redacted, bounded. `key` is 64 hex digits, see `idempotency_key`."""

    subject: Subject
    sign: str
    note: str
    reporter: str
    key: str
    url: str = ""
    wanted: Wanted = Wanted.DISABLE
    is_braked: bool = True
    evidence: Mapping[str, Any] = field(default_factory=dict)


def subject_of(text: str, digester: Digester) -> Subject:
    """The subject of a token or of a digest in hex, given as text. BadReport for anything else."""
    given = text.strip()
    if is_token(given):
        raw = given.encode("ascii")
        return Subject(digester(raw), hint_of(raw))
    if _DIGEST.fullmatch(given):
        return Subject(given.lower())
    raise BadReport(f"is neither a token ({described_formats()}) nor its digest (64 hex digits)")


def digest_only(text: Any) -> Subject:
    """The subject of a digest; raw tokens are refused here as everything else is. BadReport."""
    if isinstance(text, str) and _DIGEST.fullmatch(text):
        return Subject(text.lower())
    raise BadReport("is not 64 hex digits: only digests may be given here, never tokens")


def new_report(subject: Subject, *, sign: Any, note: Any, reporter: str, key: Any = None) -> NewReport:
    """A report of the subject. `key` None: the same sign with the same note is the same report. BadReport."""
    if not isinstance(sign, str) or not _SIGN.fullmatch(sign):
        raise BadReport("has a wrong sign: write 1 to 40 of a-z, 0-9 and _, such as abuse_report")
    if not _REPORTER.fullmatch(reporter):
        raise BadReport("has a wrong reporter: write 1 to 64 letters, digits and _.@:-")
    words = clean_note(note)
    # A reporter may have got a token into its own name.
    return NewReport(subject, redact(sign), words, redact(reporter), idempotency_key(key, words))


def clean_note(note: Any) -> str:
    """A note as it is kept: text, printable, free of tokens, at most 500 characters. BadReport when it is no text."""
    if note is None:
        return ""
    if not isinstance(note, str):
        raise BadReport("has a note that is not text")
    return bounded(note, MAX_NOTE_LENGTH)


def bounded(text: str, longest: int) -> str:
    """Text from outside as a row keeps it. It is cut last: half a token has no form any more, and is still a secret."""
    clean = "".join(char if char.isprintable() else " " for char in redact(text)).strip()
    return clean if len(clean) <= longest else clean[: longest - 1] + "…"


def idempotency_key(key: Any, otherwise: str) -> str:
    """64 hex digits that are equal for what is the same report: of the key that was given, else of `otherwise`.

    Hashed, so that whatever a caller takes for a key is bounded, and no secret. BadReport when it is no short text.
    """
    if key is None or key == "":
        parts = ("note", otherwise)
    elif isinstance(key, str) and len(key) <= MAX_KEY_LENGTH:
        parts = ("key", key)
    else:
        raise BadReport(f"has a wrong key: write at most {MAX_KEY_LENGTH} characters")
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()


def read_lines(file: TextIO, digester: Digester) -> Iterator[tuple[int, Subject | BadReport]]:
    """Each line that is not empty, with its number (from 1): its subject, or why it has none. Never read whole.

    Open the file with errors="surrogateescape": bytes that are not UTF-8 spoil their line only.
    """
    for number, line in numbered_lines(file, MAX_LINE_LENGTH):
        if line is None:
            yield number, BadReport("is longer than a line may be")
            continue
        try:
            yield number, subject_of(line.strip("\ufeff \t\r\n"), digester)
        except BadReport as err:
            yield number, err


def record(database: Database, reports: Sequence[NewReport]) -> list[int]:
    """Write the reports that are not there yet, in one transaction; the ids of the new ones, by digest."""
    with database.write() as session:
        return record_within(session, reports)


def record_within(session: Session, reports: Iterable[NewReport]) -> list[int]:
    """The same in the caller's writing transaction."""
    rows = {(report.subject.digest, report.sign, report.key): _row(report) for report in reports}
    ordered = [rows[key] for key in sorted(rows)]
    new: list[tuple[str, int]] = []
    for start in range(0, len(ordered), ROWS_A_STATEMENT):
        insert = insert_or_nothing(session, Report).values(ordered[start : start + ROWS_A_STATEMENT])
        new += [(digest, own) for digest, own in session.execute(insert.returning(Report.digest, Report.id))]
    return [own for _, own in sorted(new)]


def make_due_after_import(session: Session) -> int:
    """Have every report decided now whose token the SQL store has come to know; the number of them."""
    known = select(ApiToken.digest).where(ApiToken.digest == Report.digest).exists()
    result = session.execute(
        update(Report)
        .where(Report.state == ReportState.UNKNOWN, known)
        .values(next_check_at=db_now())
        .execution_options(synchronize_session=False)
    )
    return int(result.rowcount)  # type: ignore[attr-defined]  # an UPDATE's result has it


def purge_expired(session: Session) -> int:
    """Delete unknown ones after 30 days and decided ones after 400; what is held or undecided stays. The number."""
    unknown = (Report.state == ReportState.UNKNOWN) & (Report.received_at < db_now(-UNKNOWN_KEPT_DAYS * 86400))
    over = Report.state.in_((ReportState.SETTLED, ReportState.REJECTED)) & (
        Report.received_at < db_now(-SETTLED_KEPT_DAYS * 86400)
    )
    result = session.execute(delete(Report).where(unknown | over))
    return int(result.rowcount)  # type: ignore[attr-defined]  # a DELETE's result has it


def _row(report: NewReport) -> dict[str, Any]:
    return {
        "digest": report.subject.digest,
        "hint": report.subject.hint,
        "sign": report.sign,
        "idempotency_key": report.key,
        "note": report.note,
        "reporter": report.reporter,
        "url": report.url,
        "wanted": report.wanted,
        "is_braked": report.is_braked,
        "evidence": dict(report.evidence),
        "received_at": db_now(),
        "state": ReportState.RECEIVED,
        "next_check_at": db_now(),
        "decision": "",
    }
