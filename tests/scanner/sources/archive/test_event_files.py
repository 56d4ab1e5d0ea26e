"""Tests that a file of the event archive is read as a stream and within limits."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime

import httpx
import pytest
import respx
from hypothesis import given, settings
from hypothesis import strategies as st

from scanner.github import event_files
from scanner.github.errors import Malformed, Unavailable
from scanner.github.event_files import file_name, opened
from scanner.sources.archive.hours import hours_between
from tests.scanner.sources.archive.archiving import ARCHIVE, HOUR, Archive, packed, push


@pytest.mark.parametrize("cut", [0, 10, 100])
def test_a_file_that_is_cut_off_is_tried_again(reading: Archive, cut: int) -> None:
    content = packed(*(push(number) for number in range(50)))
    reading.publish(HOUR, content[: len(content) - 1 - cut])
    reading.queue(HOUR)
    reading.work()
    assert (reading.hour().state, reading.hour().failures) == ("queued", 1)


def test_lines_that_are_no_events_are_counted(reading: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_files, "MAX_LINE_LENGTH", 2_000_000)
    lines = [b"", b"{", b"[" * 100_000, b"null", b"\xff\xfe", b"x" * 3_000_000, json.dumps(push(1)).encode()]
    reading.publish(HOUR, gzip.compress(b"\n".join(lines)))
    reading.queue(HOUR)
    reading.work()
    job = reading.hour()
    assert (job.state, job.counts["unusable_event"], job.counts["unread_line_over_limit"]) == ("partial", 4, 1)
    assert reading.pushes() == [f"{1:040x}"]


@given(st.lists(st.binary(max_size=300), max_size=30), st.integers(1, 200), st.integers(1, 3))
@settings(max_examples=50, deadline=None)
def test_lines_are_complete_whatever_the_sizes_of_the_received_pieces(
    lines: list[bytes], chunk: int, members: int
) -> None:
    lines = [line.replace(b"\n", b" ") for line in lines]
    content = b"".join(line + b"\n" for line in lines)
    step = max(len(content) // members, 1)
    packed_parts = [gzip.compress(content[at : at + step]) for at in range(0, max(len(content), 1), step)]
    data = b"".join(packed_parts)

    class Chunks(httpx.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            yield from (data[at : at + chunk] for at in range(0, len(data), chunk))

    with respx.mock() as router:
        router.get(url__startswith=ARCHIVE).mock(return_value=httpx.Response(200, stream=Chunks()))
        with opened(ARCHIVE, HOUR) as read:
            assert list(read) == lines


@pytest.mark.parametrize(("content", "error"), [(b"<html>", Malformed), (b"", Unavailable), (b"\x1f\x8b", Unavailable)])
def test_each_unusable_archive_file_has_a_reason(archive: respx.Router, content: bytes, error: type[Exception]) -> None:
    archive.get(url__startswith=ARCHIVE).mock(return_value=httpx.Response(200, content=content))
    with pytest.raises(error), opened(ARCHIVE, HOUR) as lines:
        list(lines)


def test_a_decompression_bomb_and_a_slow_download_are_limited(
    archive: respx.Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_files, "MAX_FILE_BYTES", 1 << 20)
    squeezer = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = squeezer.compress(bytes(8 << 20)) + squeezer.flush()
    archive.get(url__startswith=ARCHIVE).mock(side_effect=lambda _: httpx.Response(200, stream=httpx.ByteStream(bomb)))
    with pytest.raises(Malformed, match="more than"), opened(ARCHIVE, HOUR) as lines:
        list(lines)
    slow = packed(*(push(number) for number in range(2000)))
    archive.get(url__startswith=ARCHIVE).mock(side_effect=lambda _: httpx.Response(200, stream=httpx.ByteStream(slow)))
    ticks = iter(range(0, 10**9, 20_000))
    with pytest.raises(Unavailable, match="longer"), opened(ARCHIVE, HOUR, clock=lambda: next(ticks)) as lines:
        list(lines)


def test_no_redirect_is_followed(archive: respx.Router) -> None:
    archive.get(url__startswith=ARCHIVE).mock(
        return_value=httpx.Response(302, headers={"location": "http://10.0.0.1/"})
    )
    elsewhere = archive.get("http://10.0.0.1/").mock(return_value=httpx.Response(200))
    with pytest.raises(Exception, match="302"), opened(ARCHIVE, HOUR) as lines:
        list(lines)
    assert not elsewhere.called


def test_file_names_are_those_of_the_archive() -> None:
    assert file_name(datetime(2026, 3, 5, 7, tzinfo=UTC)) == "2026-03-05-7.json.gz"
    assert hours_between(datetime(2026, 1, 1, 1, 59, tzinfo=UTC), datetime(2026, 1, 1, 3, 0, tzinfo=UTC)) == [
        datetime(2026, 1, 1, 1, tzinfo=UTC),
        datetime(2026, 1, 1, 2, tzinfo=UTC),
    ]
