"""The fuzz tests: one for each parser of untrusted bytes.

A test fails if the parser raises an undocumented exception.
"""

from __future__ import annotations

import functools
import itertools
import json
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from scanner.detection import Detector, redact, sha256_digest
from scanner.detection.engine import all_findings
from scanner.detection.limits import Limits, Meter
from scanner.detection.patterns.matcher import hit_offsets
from scanner.github.client import GitHub, connect
from tests.fuzz import samples
from tests.fuzz.strategies import any_json, any_text, edited, joined, record

MAX_EXPANDED = 4 << 20
MAX_ENTRIES = 2_000
MAX_STEPS = 200_000
"""The maximum number of times that the detector looks at its clock for one content."""
WEB_URL = "https://github.example"
_PACKED_REFS = b"# pack-refs with: peeled\n" + b"a" * 40 + b" refs/heads/main\n" + b"b" * 40 + b" refs/tags/r8_x\n^\n"
_REFS_ANSWER = json.dumps(
    {"tips": "a" * 40 + "\n", "names": ["refs/tags/x"], "unread": {"refs_over_limit": 1}}
).encode()
LIMITS = Limits(expanded_bytes=MAX_EXPANDED, entries=MAX_ENTRIES, member_bytes=1 << 20, piece_bytes=256 << 10)


@dataclass(frozen=True, slots=True)
class Target:
    """A fuzz test of one parser: its name, a strategy for inputs, and the check of each input."""

    name: str
    examples: st.SearchStrategy[Any]
    check: Callable[[Any], None]


def read(content: bytes) -> None:
    """Check that the detector reads the content without an exception and within its limits."""
    ticks = itertools.count()
    meter = Meter(LIMITS, len(content), clock=lambda: next(ticks) / MAX_STEPS)
    found = all_findings(content, "fuzz", meter)
    assert next(ticks) < MAX_STEPS, "too many steps"
    assert meter.expanded <= MAX_EXPANDED + 2 * LIMITS.member_bytes, "more was expanded than the limit allows"
    assert meter.entries <= MAX_ENTRIES + 1
    for finding in found:
        assert len(finding.token) == 40
        assert finding.members or 0 <= finding.start < finding.end <= len(content)


def scan(content: bytes) -> None:
    """Check that the prefilter reports every small content in which the detector finds plain tokens."""
    result = Detector().scan_bytes(content)
    offsets = hit_offsets(content)
    assert offsets == sorted(offsets)
    if result is not None and any(not one.container for one in result.candidates):
        assert offsets or content[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in content[:8]


def redacted(content: bytes) -> None:
    """Check that redaction raises no exception and leaves no plain token, and that a second redaction changes
    nothing.
    """
    text = content.decode("utf-8", "surrogateescape").encode("utf-8", "surrogatepass").decode("utf-8", "surrogatepass")
    once = redact(text)
    assert redact(once) == once
    assert samples.TOKEN.decode() not in once


def pack(content: bytes) -> None:
    """Check that a git pack is read and scanned without an exception."""
    from scanner.detection.git.packs import PackLimits
    from scanner.github.git_protocol import ReceivedPack
    from scanner.sources.pushes.objects import read_pack
    from scanner.sources.pushes.push import Push, ScanContext

    limits = PackLimits(inflated_bytes=MAX_EXPANDED, object_bytes=1 << 20, held_bytes=1 << 20, objects=MAX_ENTRIES)
    push = Push("a/b", 1, "0" * 40, "1" * 40, "refs/heads/main", "", None, "push")
    read_pack(ReceivedPack(content, "sha1"), push, WEB_URL, ScanContext(Detector()), limits)


def pack_in_reader(content: bytes) -> None:
    """Check that the result of scanning a pack can be sent to another process unchanged."""
    import socket

    from scanner.detection.deep_reading import InProcessReader
    from scanner.detection.git.pack_scanning import PackRequest
    from scanner.detection.git.packs import PackLimits
    from scanner.isolation import pack_messages

    limits = PackLimits(inflated_bytes=MAX_EXPANDED, object_bytes=1 << 20, held_bytes=1 << 20, objects=MAX_ENTRIES)
    answer = InProcessReader(LIMITS).read_pack(content, PackRequest(limits, "sha1", (), 8.0))
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
        pack_messages.send_scan(theirs, answer.scan, 0.0, retires=False)
        received, _ = pack_messages.receive_pack_answer(ours, lambda: None)
    assert received.scan.unread == answer.scan.unread
    assert received.scan.locations == answer.scan.locations
    assert [hit.oid for hit in received.scan.hits] == [hit.oid for hit in answer.scan.hits]


def pack_of_history(files: tuple[bytes, bytes]) -> None:
    """Check that r8scan reads each object of a git pack, leaves it to git, or counts it as unread.

    `files` are the pack and its index.
    """
    from scanner.detection.history.pack_history.families import MAX_OBJECT_BYTES, plan_history
    from scanner.detection.history.pack_history.index import UnusualPack, open_pack
    from scanner.detection.history.pack_history.reading import FamilyReader

    with tempfile.TemporaryDirectory() as folder:
        pack, index = Path(folder, "a.pack"), Path(folder, "a.idx")
        for path, written in zip((pack, index), files, strict=True):
            path.write_bytes(written)
        try:
            opened = open_pack(pack, index)
        except UnusualPack:
            return
    plan = plan_history([opened])
    seen = [number for planned in plan.packs for number in planned.rest.tolist()]
    for unit in plan.units:
        reader = FamilyReader(unit, budget=64 << 20)
        for number, _, content in reader.objects():
            assert len(content) <= MAX_OBJECT_BYTES
            seen.append(number)
        seen += [number for entries in (reader.for_git, reader.over_budget) for number, _ in entries]
    assert sorted(seen) == list(range(len(opened[1].kinds)))


def reader_answer(content: bytes) -> None:
    """Check that arbitrary bytes from a confined process are accepted, or raise BadAnswer."""
    import socket

    from scanner.isolation import messages, pack_messages

    ours, theirs = socket.socketpair()
    with ours:
        theirs.sendall(content[:100_000])
        theirs.close()
        with suppress(messages.BadAnswer):
            pack_messages.receive_pack_answer(ours, lambda: None)


def packed_refs(content: bytes) -> None:
    """Check that any file of packed refs is read, within the limits on commits and names."""
    from scanner.detection.history import repository_refs

    with tempfile.TemporaryDirectory(prefix="r8scan-fuzz-") as folder:
        (Path(folder) / "packed-refs").write_bytes(content)
        refs = repository_refs.read_refs(Path(folder))
    assert len(refs.tips) <= repository_refs.MAX_TIPS
    assert len(refs.names) <= repository_refs.MAX_NAMES


def refs_answer(content: bytes) -> None:
    """Check that arbitrary bytes from the process that reads refs are accepted or counted as unreadable."""
    from scanner.detection.history import repository_refs

    refs = repository_refs._parsed(content)
    assert refs.unread["refs_unreadable"] or len(refs.names) <= repository_refs.MAX_NAMES


def hostile_json(body: bytes) -> None:
    """Check that a JSON body is refused, or becomes a value that can be encoded as JSON again."""
    from scanner.github.hostile_json import parse_json

    with suppress(ValueError):
        json.dumps(parse_json(body))


def delta(content: bytes) -> None:
    """Check that applying a git delta yields an object below the size limit, or raises DamagedPack."""
    from scanner.detection.git.pack_codec import DamagedPack, apply_delta

    try:
        made = apply_delta(samples.CONTENT * 4, content, 1 << 16)
    except DamagedPack:
        return
    assert len(made) <= 1 << 16


def answer(content: bytes) -> None:
    """Check that a git server's answer is split into the same lines, however it is cut into pieces."""
    from scanner.github.errors import GitHubError
    from scanner.github.git_protocol import pkt_lines

    split: list[list[Any]] = []
    for size in (1, 7, len(content) or 1):
        lines: list[Any] = []
        try:
            lines.extend(pkt_lines(content[at : at + size] for at in range(0, len(content), size)))
        except GitHubError as err:
            lines.append(err.reason)
        split.append(lines)
    assert split[0] == split[1] == split[2]


def event(value: Any) -> None:
    """Check that any JSON value is refused, or parsed as a GitHub event whose texts can be scanned."""
    from scanner.sources.timeline.events import parse_event, read_events

    parsed = parse_event(value)
    for document in read_events([parsed] if parsed is not None else [], WEB_URL).documents:
        Detector().scan(document)


def alerts(body: bytes) -> None:
    """Check that a body is refused, or parsed as a list of alerts without raw tokens."""
    from scanner.sources.alerts import NotAlerts, TooManyAlerts, parse_alerts

    try:
        found = parse_alerts(body, sha256_digest, WEB_URL)
    except (NotAlerts, TooManyAlerts):
        return
    for alert in found.alerts:
        assert samples.TOKEN.decode() not in repr(alert)


def signature(parts: tuple[Any, str, str, bytes]) -> None:
    """Check that an invented signature is never accepted."""
    from scanner.github.signatures import Forged, parse_keys, verify

    answered, pem, given, body = parts
    keys = parse_keys(answered if isinstance(answered, dict) else {})
    for key in (*keys.values(), pem):
        try:
            verify(key, given, body)
        except Forged:
            continue
        raise AssertionError("a forged signature was accepted")


def gist(value: Any) -> None:
    """Check that a gist of any shape is read without an exception."""
    from scanner.sources.gists.poll import read_gist

    if isinstance(value, dict):
        read_gist(value, WEB_URL, Detector())


@functools.cache
def _github() -> GitHub:
    """Return a GitHub client that sends no request."""
    return connect(f"{WEB_URL}/api", WEB_URL, None)


def search_result(value: Any) -> None:
    """Check that a code search result of any shape is read without an exception."""
    from scanner.github.search import parse_result
    from scanner.sources.code_search.poll import Results

    if isinstance(value, dict):
        Results().add_result(parse_result(value), _github(), Detector())


def comparison(patch: str) -> None:
    """Check that a patch of any shape is read, with a line number for each added line."""
    from scanner.github.compare import new_side

    text, numbers = new_side(patch)
    assert len(numbers) == (text.count("\n") + 1 if numbers else 0)


def bounce(content: bytes) -> None:
    """Check that a mail is refused, or read as a failed delivery with a reason of limited length."""
    from notifications.email.bounces import NotABounce, read_bounce

    try:
        found = read_bounce(content)
    except NotABounce:
        return
    assert len(found.reason) < 500


def usage(content: bytes) -> None:
    """Check that a line is refused, or becomes a usage record without an IP address or raw token."""
    from datetime import UTC, datetime

    from scanner.compromise.networks import NetworkList
    from scanner.compromise.usage_records import BadRecord, RecordReader

    reader = RecordReader(sha256_digest, NetworkList(["203.0.113.0/24"]), datetime(2026, 1, 1, tzinfo=UTC))
    try:
        found = reader.read(content.decode("utf-8", "surrogateescape"))
    except BadRecord:
        return
    assert "203.0.113.7" not in repr(found)
    assert samples.TOKEN.decode() not in repr(found)


def report(value: Any) -> None:
    """Check that each field of a token report is refused, or accepted without a raw token."""
    from scanner.compromise.possession import public_url
    from scanner.compromise.reports import BadReport, Subject, new_report, subject_of

    fields = value if isinstance(value, dict) else {}
    kept: list[str] = []
    subject = Subject("0" * 64)
    with suppress(BadReport):
        subject = subject_of(str(fields.get("token")), sha256_digest)
    with suppress(BadReport):
        kept.append(new_report(subject, sign="x", note=fields.get("note"), reporter="x", key=fields.get("key")).note)
    with suppress(BadReport):
        kept.append(public_url(str(fields.get("url")), "https://github.example"))
    assert all(samples.TOKEN.decode() not in text for text in kept)


def archive_hour(content: bytes) -> None:
    """Check that an hourly file of events yields lines of limited length, or fails with a GitHubError."""
    from scanner.github import event_files
    from scanner.github.errors import GitHubError

    chunks = (content[at : at + 100] for at in range(0, len(content), 100))
    ticks = itertools.count()
    with suppress(GitHubError):
        for line in event_files._lines(event_files._inflated(chunks, MAX_STEPS, lambda: float(next(ticks)))):
            assert line is None or len(line) <= event_files.MAX_LINE_LENGTH


TOKEN_TEXT = st.sampled_from([samples.TOKEN.decode(), samples.TOKEN.decode()[:39], "r8_"])
NAMES = st.sampled_from(["PushEvent", "IssuesEvent", "CreateEvent", "PublicEvent", "IssueCommentEvent", "a/b", "main"])
URLS = st.sampled_from(
    [f"{WEB_URL}/a/b/blob/{'0' * 40}/c", "https://[", "http://a@b", f"{WEB_URL}/{samples.TOKEN.decode()}"]
)
TIMES = st.sampled_from(["2026-01-01T00:00:00Z", "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59"])
WRITTEN = record(
    title=any_text(), body=st.one_of(any_text(), TOKEN_TEXT), html_url=URLS, created_at=TIMES, path=any_text()
)
PAYLOAD = record(
    ref=st.one_of(NAMES, any_text()),
    ref_type=st.sampled_from(["branch", "tag", "repository"]),
    full_ref=any_text(),
    head=st.sampled_from(["0" * 40, "1" * 40, "a" * 64]),
    before=st.sampled_from(["0" * 40, "b" * 40]),
    issue=WRITTEN,
    comment=WRITTEN,
)
EVENT = record(
    id=st.one_of(st.just("1"), any_text()),
    type=NAMES,
    repo=record(id=st.integers(), name=st.one_of(NAMES, any_text())),
    actor=record(login=any_text()),
    payload=PAYLOAD,
    created_at=TIMES,
)
ALERT = record(token=TOKEN_TEXT, type=any_text(), url=URLS, source=st.sampled_from(["content", "commit", "npm", "x"]))
FILE = record(filename=any_text(), raw_url=st.one_of(URLS, st.just(f"{WEB_URL}/raw/{'0' * 40}/x")), size=st.integers())
GIST = record(
    id=st.just("0" * 32),
    files=st.dictionaries(any_text(), FILE, max_size=4),
    html_url=URLS,
    updated_at=TIMES,
    description=st.one_of(any_text(), TOKEN_TEXT),
    owner=record(login=any_text()),
)
RESULT = record(
    path=any_text(),
    sha=st.sampled_from(["0" * 40, "x"]),
    html_url=URLS,
    git_url=URLS,
    repository=record(full_name=st.one_of(NAMES, any_text()), id=st.integers()),
    text_matches=st.lists(record(fragment=st.one_of(any_text(), TOKEN_TEXT)), max_size=3),
)
REPORT = record(
    token=TOKEN_TEXT, sign=st.just("abuse"), note=st.one_of(any_text(), TOKEN_TEXT), key=any_text(), url=URLS
)


def _json_bytes(values: st.SearchStrategy[Any]) -> st.SearchStrategy[bytes]:
    return values.map(lambda value: json.dumps(value).encode())


def _pack_and_index(number: int) -> st.SearchStrategy[tuple[bytes, bytes]]:
    pack, index = samples.packs()[number], samples.indexes()[number]
    return st.one_of(
        st.tuples(edited((pack,)), st.just(index)),
        st.tuples(st.just(pack), edited((index,))),
        st.tuples(edited((pack,)), edited((index,))),
    )


def targets() -> list[Target]:
    """Return the fuzz tests of all parsers."""
    import gzip

    hour = gzip.compress(b'{"id": "1"}\n{"id": "2"}\n' * 20)
    return [
        *(Target(f"container_{name}", edited(samples.containers(name)), read) for name in samples.FAMILIES),
        Target("engine", st.one_of(joined(samples.needles()), edited(samples.encoded())), read),
        Target("detector", st.one_of(joined(samples.needles()), edited(samples.encoded())), scan),
        Target("redact", st.one_of(joined(samples.needles()), edited(samples.encoded())), redacted),
        Target("pack", edited(samples.packs()), pack),
        Target("pack_in_reader", edited(samples.packs()), pack_in_reader),
        Target("pack_of_history", st.one_of(*map(_pack_and_index, range(2))), pack_of_history),
        Target("reader_answer", edited(samples.reader_answers()), reader_answer),
        Target("packed_refs", edited((_PACKED_REFS,)), packed_refs),
        Target("refs_answer", edited((_REFS_ANSWER,)), refs_answer),
        Target("hostile_json", st.one_of(edited(samples.json_bodies()), _json_bytes(any_json())), hostile_json),
        Target("delta", edited(samples.deltas()), delta),
        Target("git_answer", edited(samples.answers()), answer),
        Target("event", st.one_of(EVENT, any_json()), event),
        Target("alerts", st.one_of(_json_bytes(st.lists(ALERT, max_size=4)), st.binary(max_size=200)), alerts),
        Target("signature", st.tuples(any_json(), any_text(), any_text(), st.binary(max_size=40)), signature),
        Target("gist", st.one_of(GIST, any_json()), gist),
        Target("search_result", st.one_of(RESULT, any_json()), search_result),
        Target("comparison", st.one_of(any_text(), st.just("@@ -1 +1 @@\n+a\n b\n-c")), comparison),
        Target("bounce", edited(samples.mails()), bounce),
        Target("usage", edited(samples.usage()), usage),
        Target("report", st.one_of(REPORT, any_json()), report),
        Target("archive_hour", edited((hour,)), archive_hour),
    ]
