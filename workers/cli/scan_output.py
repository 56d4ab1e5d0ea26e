"""Prints the result of `r8scan scan` as a table, JSON lines or SARIF."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from scanner import __version__
from scanner.detection import Candidate, redact
from workers.cli import output
from workers.cli.scan_run import NotRead, Progress, ScanRun
from workers.health.problems import counted

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
RULE = "leaked-api-token"
MAX_NAMED_ON_TERMINAL = 20
"""The summary names at most this many items that could not be read."""


class _Hidden:
    """A progress display that shows nothing."""

    def begin(self, what: str, total: int | None) -> None:
        del what, total

    def advance(self, objects: int, size: int, hits: int) -> None:
        del objects, size, hits


class _Shown:
    def __init__(self, bar: Bar) -> None:
        self._bar = bar
        self._task = bar.add_task("", total=None, detail="")
        self._started = time.monotonic()
        self._objects = self._bytes = self._hits = 0

    def begin(self, what: str, total: int | None) -> None:
        self._objects = 0
        self._bar.update(self._task, description=output.plain(what)[-60:], total=total, completed=0)

    def advance(self, objects: int, size: int, hits: int) -> None:
        self._objects += objects
        self._bytes += size
        self._hits += hits
        rate = self._bytes / max(time.monotonic() - self._started, 0.001)
        detail = f"{self._objects} objects, {_size(self._bytes)}, {_size(rate)}/s, {self._hits} hits"
        self._bar.update(self._task, completed=self._objects, detail=detail)


@contextmanager
def progress() -> Iterator[Progress]:
    """Yield a progress display. It shows nothing if standard error is not a terminal."""
    if not sys.stderr.isatty():
        yield _Hidden()
        return
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TextColumn("{task.fields[detail]}"))
    with Bar(*columns, console=output.errors(), transient=True) as bar:
        yield _Shown(bar)


def report(run: ScanRun, form: str, states: Mapping[str, str] | None) -> None:
    """Print the found tokens to standard output, and a summary to standard error.

    Args:
        form: The output format, a value of `Format`.
        states: The state of each token in the token store, by digest. None if the store was not asked.
    """
    if form == "json":
        output.json_lines(_fields(candidate, states) for candidate in run.candidates)
        output.json_lines(_not_read_fields(item) for item in run.not_read)
    elif form == "sarif":
        sys.stdout.write(json.dumps(_sarif(run), indent=2) + "\n")
    elif run.candidates:
        columns = ["token", "encoding", "where", "line", "commit", *(["store"] if states is not None else [])]
        output.table(f"{len(run.candidates)} found", columns, (_row(c, states) for c in run.candidates), empty="")
    _summary(run)


def _fields(candidate: Candidate, states: Mapping[str, str] | None) -> dict[str, Any]:
    place = candidate.place
    fields: dict[str, Any] = {
        "sha256": candidate.digest,
        "hint": candidate.hint,
        "encoding": candidate.encoding,
        "kind": place.kind,
        "path": _printable(place.path if place.path is not None else place.ref),
        "line": candidate.line,
        "column": candidate.column,
        "commit": place.commit,
        "object": place.git_object,
        "container": _printable(candidate.container) or None,
    }
    if states is not None:
        fields["known"] = states[candidate.digest]
    return fields


def _not_read_fields(item: NotRead) -> dict[str, Any]:
    """Return the JSON object for an item that could not be read."""
    return {
        "not_read": item.reason,
        "count": item.count,
        "path": _printable(item.path),
        "object": item.git_object,
        "commit": item.commit,
    }


def _row(candidate: Candidate, states: Mapping[str, str] | None) -> list[Any]:
    place = candidate.place
    where = place.path or place.ref or f"{place.kind} {place.git_object or ''}"
    where = f"{where} → {candidate.container}" if candidate.container else where
    row = [candidate.hint, candidate.encoding, where, candidate.line or None, (place.commit or "")[:12]]
    return [*row, states[candidate.digest]] if states is not None else row


def _sarif(run: ScanRun) -> dict[str, Any]:
    """Return the scan's result as SARIF 2.1.0, https://docs.oasis-open.org/sarif/sarif/v2.1.0."""
    driver = {
        "name": "r8scan",
        "version": __version__,
        "rules": [{"id": RULE, "shortDescription": {"text": "An API token is in a place where others can read it."}}],
    }
    notifications = [
        {"level": "warning", "message": {"text": f"{count} × {reason}"}} for reason, count in sorted(run.unread.items())
    ]
    notifications += [_sarif_not_read(item) for item in run.not_read]
    invocation = {"executionSuccessful": not run.unread, "toolExecutionNotifications": notifications}
    results = [_sarif_result(candidate) for candidate in run.candidates]
    sarif_run = {"tool": {"driver": driver}, "invocations": [invocation], "results": results}
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [sarif_run]}


def _sarif_not_read(item: NotRead) -> dict[str, Any]:
    path = _printable(item.path) or "-"
    notification: dict[str, Any] = {
        "level": "warning",
        "message": {"text": f"Not read: {item.reason} ({item.count})"},
        "locations": [{"physicalLocation": {"artifactLocation": {"uri": _uri(path)}}}],
    }
    details = {"reason": item.reason, "count": item.count, "object": item.git_object, "commit": item.commit}
    notification["properties"] = {key: value for key, value in details.items() if value}
    return notification


def _sarif_result(candidate: Candidate) -> dict[str, Any]:
    place = candidate.place
    path = _printable(place.path or place.ref or place.git_object or "-") or "-"
    region = {"startLine": candidate.line, "startColumn": max(candidate.column, 1)} if candidate.line else None
    location: dict[str, Any] = {"artifactLocation": {"uri": _uri(path)}}
    if region:
        location["region"] = region
    details = {"encoding": candidate.encoding, "commit": place.commit, "container": _printable(candidate.container)}
    return {
        "ruleId": RULE,
        "level": "error",
        "message": {"text": f"The token {candidate.hint} ({candidate.encoding})"},
        "locations": [{"physicalLocation": location}],
        "partialFingerprints": {"token/v1": candidate.digest},
        "properties": {key: value for key, value in details.items() if value},
    }


def _summary(run: ScanRun) -> None:
    what = [counted(run.files, "file")] if run.files else []
    what += [counted(run.objects, "git object")] if run.objects else []
    found = f"{len(run.candidates)} found" if run.candidates else "no token found"
    _say(f"{found} in {' and '.join(what) or 'nothing'} ({_size(run.bytes)})")
    for reason, count in sorted(run.unread.items()):
        _say(f"not read: {count} × {reason.replace('_', ' ')}")
    for item in run.not_read[:MAX_NAMED_ON_TERMINAL]:
        _say(f"  {output.plain(_named(item))}")
    more = len(run.not_read) - MAX_NAMED_ON_TERMINAL
    if more > 0:
        _say(f"  and {more} more: --format json names them all")
    for note in run.notes:
        _say(f"note: {output.plain(redact(note))}")


def _say(line: str) -> None:
    print(line, file=sys.stderr)


def _named(item: NotRead) -> str:
    reason = item.reason.replace("_", " ") + (f" ({item.count})" if item.count > 1 else "")
    where = _printable(item.path) or "-"
    return f"{where}{f' (object {item.git_object})' if item.git_object else ''}: {reason}"


def _printable(text: str | None) -> str | None:
    """Return the path with bytes that are not UTF-8 replaced, or None for None."""
    return None if text is None else text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _uri(path: str) -> str:
    from urllib.parse import quote

    return quote(path)


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
