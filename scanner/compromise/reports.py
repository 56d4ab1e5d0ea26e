"""Reports of compromised tokens: parsing, checks, and recording."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TextIO

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from scanner.compromise.lines import numbered_lines
from scanner.detection import Digester, redact
from scanner.detection.patterns.token_formats import described_formats, hint_of, is_token
from scanner.records import audit
from scanner.records.columns import insert_or_nothing
from scanner.records.compromise_models import Report
from scanner.records.database import Database
from scanner.records.models import ApiToken, db_now
from scanner.records.states import Decision, ReportState, RequestedAction

MAX_NOTE_LENGTH = 500
MAX_LINE_LENGTH = 1024
MAX_KEY_LENGTH = 200
NAMED = 3
"""An audit entry about many reports names at most this many kinds of evidence, and this many notes."""
ROWS_PER_STATEMENT = 200
UNKNOWN_RETENTION_DAYS = 30
SETTLED_RETENTION_DAYS = 400

_SIGN = re.compile(r"[a-z0-9_]{1,40}")
_REPORTER = re.compile(r"[A-Za-z0-9_.@:-]{1,64}")
_DIGEST = re.compile(r"[0-9a-fA-F]{64}")


class BadReport(ValueError):
    """Raised if a report is not acceptable. The message completes a sentence that begins with "line 7"."""


@dataclass(frozen=True, slots=True)
class Subject:
    """The token that a report is about. `hint` is its first and last characters, or "" if they are not known."""

    digest: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class NewReport:
    """A checked report with redacted texts. Two reports with the same `key` count as one."""

    subject: Subject
    sign: str
    note: str
    reporter: str
    key: str
    url: str = ""
    wanted: RequestedAction = RequestedAction.DISABLE
    is_braked: bool = True
    evidence: Mapping[str, Any] = field(default_factory=dict)


def subject_of(text: str, digester: Digester) -> Subject:
    """Return the token that a report is about. `text` is the token itself or its digest in hex.

    Raises:
        BadReport: The text is neither.
    """
    given = text.strip()
    if is_token(given):
        raw = given.encode("ascii")
        return Subject(digester(raw), hint_of(raw))
    if _DIGEST.fullmatch(given):
        return Subject(given.lower())
    raise BadReport(f"is neither a token ({described_formats()}) nor its digest (64 hex digits)")


def new_report(
    subject: Subject,
    *,
    sign: Any,
    note: Any,
    reporter: str,
    key: Any = None,
    redacted: Callable[[str], str] = redact,
) -> NewReport:
    """Return a new report about the token, with checked fields.

    Args:
        sign: The kind of evidence, for example "abuse_report".
        key: The reporter's idempotency key. Without a key, reports with the same sign and note count as one.
        redacted: Redacts the note. For many reports, pass `SharedRedaction.redact` to limit the total time.

    Raises:
        BadReport: A field is malformed.
    """
    if not isinstance(sign, str) or not _SIGN.fullmatch(sign):
        raise BadReport("has a wrong sign: write 1 to 40 of a-z, 0-9 and _, such as abuse_report")
    if not _REPORTER.fullmatch(reporter):
        raise BadReport("has a wrong reporter: write 1 to 64 letters, digits and _.@:-")
    words = clean_note(note, redacted)
    # Redact `sign` (the kind of evidence) and the reporter's name too, because somebody may have put a token there by
    # mistake.
    return NewReport(subject, redact(sign), words, redact(reporter), idempotency_key(key, words))


def clean_note(note: Any, redacted: Callable[[str], str] = redact) -> str:
    """Return the note as printable text with tokens redacted, at most `MAX_NOTE_LENGTH` characters. Return "" for None.

    Raises:
        BadReport: The note is not text.
    """
    if note is None:
        return ""
    if not isinstance(note, str):
        raise BadReport("has a note that is not text")
    return bounded(note, MAX_NOTE_LENGTH, redacted)


def bounded(text: str, max_length: int, redacted: Callable[[str], str] = redact) -> str:
    """Return untrusted text as printable text with tokens redacted, at most `max_length` characters."""
    # Redact before cutting: half a token is not recognized, but is still a secret.
    clean = "".join(char if char.isprintable() else " " for char in redacted(text)[: 10 * max_length]).strip()
    return clean if len(clean) <= max_length else clean[: max_length - 1] + "…"


def idempotency_key(key: Any, default: str) -> str:
    """Return the hash of `key` as 64 hex digits. If `key` is None, hash `default`.

    Raises:
        BadReport: The key is not text, or is too long.
    """
    if key is None or key == "":
        parts = ("note", default)
    elif isinstance(key, str) and len(key) <= MAX_KEY_LENGTH:
        parts = ("key", key)
    else:
        raise BadReport(f"has a wrong key: write at most {MAX_KEY_LENGTH} characters")
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()


Subjects = list[tuple[Subject, str]]
"""The reported tokens in a line. Each comes with its encoding, or with "digest" if the line contains a digest."""


def read_lines(
    file: TextIO, digester: Digester, *, else_find: Callable[[bytes], Subjects] = lambda _: []
) -> Iterator[tuple[int, Subjects | BadReport]]:
    """Yield the number (from 1) of each line that is not blank, and the reported tokens or an error.

    Args:
        file: The lines. Open it with errors="surrogateescape", so that invalid UTF-8 affects only its own line.
        else_find: Finds tokens in a line that is neither a token nor a digest.
    """
    for number, line in numbered_lines(file, MAX_LINE_LENGTH):
        if line is None:
            yield number, BadReport("is longer than a line may be")
            continue
        try:
            subject = subject_of(line.strip("\ufeff \t\r\n"), digester)
            yield number, [(subject, "plain" if subject.hint else "digest")]
        except BadReport as err:
            yield number, else_find(line.encode("utf-8", "surrogateescape")) or err


def record(database: Database, reports: Sequence[NewReport]) -> list[int]:
    """Record the reports of one reporter in one transaction. Return the ids of the new reports."""
    with database.write() as session:
        ids = record_within(session, reports)
        if ids:
            audit.record(session, "reports_received", _evidence(reports, len(ids)), who=reports[0].reporter)
    return ids


def _evidence(reports: Sequence[NewReport], new: int) -> dict[str, Any]:
    notes = list(dict.fromkeys(report.note for report in reports if report.note))
    evidence: dict[str, Any] = {"tokens": new, "sign": ", ".join(sorted({report.sign for report in reports})[:NAMED])}
    if len(reports) > new:
        evidence["reported_before"] = len(reports) - new
    if notes:
        evidence["note"] = "; ".join(notes[:NAMED])
    return evidence


def record_within(session: Session, reports: Iterable[NewReport]) -> list[int]:
    """Record the reports in the caller's writing transaction. Leave out those that are already recorded.

    Returns:
        The ids of the new reports, in the order of the tokens' digests.
    """
    rows = {(report.subject.digest, report.sign, report.key): _row(report) for report in reports}
    ordered = [rows[key] for key in sorted(rows)]
    new: list[tuple[str, int]] = []
    for start in range(0, len(ordered), ROWS_PER_STATEMENT):
        insert = insert_or_nothing(session, Report).values(ordered[start : start + ROWS_PER_STATEMENT])
        returned = session.execute(insert.returning(Report.digest, Report.id))
        new += [(digest, report_id) for digest, report_id in returned]
    return [report_id for _, report_id in sorted(new)]


def make_due_after_import(session: Session) -> int:
    """Make reports in state `unknown` due if their token is now in the SQL token store. Return their number."""
    known = select(ApiToken.digest).where(ApiToken.digest == Report.digest).exists()
    result = session.execute(
        update(Report)
        .where(Report.state == ReportState.UNKNOWN, known)
        .values(next_check_at=db_now())
        .execution_options(synchronize_session=False)
    )
    return int(result.rowcount)  # type: ignore[attr-defined]  # an UPDATE's result has it


def purge_expired(session: Session) -> int:
    """Delete expired reports that need no further decision. Return the number of deleted reports."""
    unknown = (Report.state == ReportState.UNKNOWN) & (Report.received_at < db_now(-UNKNOWN_RETENTION_DAYS * 86400))
    decided = Report.state.in_((ReportState.SETTLED, ReportState.REJECTED)) & (
        Report.received_at < db_now(-SETTLED_RETENTION_DAYS * 86400)
    )
    result = session.execute(delete(Report).where(unknown | decided))
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
        "decision": Decision.UNDECIDED,
    }
