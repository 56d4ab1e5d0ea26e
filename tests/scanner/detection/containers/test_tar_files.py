"""Tests for tar archives. Files after a damaged part are still read."""

from __future__ import annotations

import io
import tarfile

import pytest

from scanner.detection.containers.members import Container, read_up_to, readable
from scanner.detection.containers.tar_files import BLOCK, pax_records, tar_members
from scanner.detection.limits import Limits, Meter
from tests.scanner.detection.archive_builders import old_tar, tarred


def read(content: bytes) -> tuple[dict[str, bytes], dict[str, int]]:
    meter = Meter(Limits(), len(content))
    members = {
        member.name: read_up_to(readable(member.source), 1 << 20)
        for member in tar_members(Container("a.tar", content, meter))
    }
    return members, dict(meter.unread)


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("name", ["a.txt", "folder/" + "x" * 90 + "/a.txt", "ä/é.txt"])
def test_names_and_contents_are_those_of_the_archive(form: int, name: str) -> None:
    assert read(tarred(b"content", name=name, form=form)) == ({name: b"content"}, {})


def test_long_names_are_read_up_to_the_display_limit() -> None:
    name = "folder/" * 30 + "a.txt"
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        assert read(tarred(b"content", name=name, form=form)) == ({name: b"content"}, {})


def test_the_form_before_posix_is_read() -> None:
    assert read(old_tar(b"content")) == ({"b/c.txt": b"content"}, {})


def test_a_size_that_only_a_pax_header_states_is_used() -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        entry = tarfile.TarInfo("a")
        entry.size = 600
        entry.pax_headers = {"size": "600"}
        archive.addfile(entry, io.BytesIO(b"x" * 600))
    assert read(buffer.getvalue()) == ({"a": b"x" * 600}, {})


def test_sizes_in_base_256_are_read() -> None:
    content = bytearray(tarred(b"content", form=tarfile.USTAR_FORMAT))
    content[124:136] = b"\x80" + (7).to_bytes(11, "big")
    content[148:156] = b" " * 8
    content[148:156] = b"%06o\0 " % sum(content[:BLOCK])
    assert read(bytes(content)) == ({"b/c.txt": b"content"}, {})


def test_archives_that_follow_each_other_are_read() -> None:
    content = tarred(b"1", name="a") + tarred(b"2", name="b")
    assert read(content) == ({"a": b"1", "b": b"2"}, {})


def test_a_broken_header_is_counted_and_the_files_behind_it_are_read() -> None:
    first, second, third = (tarred(b"%d" % number, name=f"{number}")[: 2 * BLOCK] for number in (1, 2, 3))
    broken = b"?" * BLOCK + second[BLOCK:]
    assert read(first + broken + third + bytes(2 * BLOCK)) == ({"1": b"1", "3": b"3"}, {"damaged": 1})


def test_a_header_whose_checksum_alone_is_wrong_is_counted_and_read() -> None:
    content = bytearray(tarred(b"content"))
    content[100] ^= 1
    assert read(bytes(content)) == ({"b/c.txt": b"content"}, {"damaged": 1})


def test_a_truncated_file_is_counted_and_read_up_to_its_end() -> None:
    content = tarred(b"x" * 2_000)
    assert read(content[: BLOCK + 700]) == ({"b/c.txt": b"x" * 700}, {"damaged": 1})


def test_padding_and_foreign_bytes_after_the_end_are_not_damage() -> None:
    assert read(tarred(b"1") + bytes(10_000) + b"signature" * 100) == ({"b/c.txt": b"1"}, {})


def test_the_content_of_a_link_is_its_target_and_other_entries_have_none() -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, kind in (("link", tarfile.SYMTYPE), ("folder", tarfile.DIRTYPE), ("pipe", tarfile.FIFOTYPE)):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, "target" if kind == tarfile.SYMTYPE else ""
            archive.addfile(entry)
    assert read(buffer.getvalue()) == ({"link": b"target"}, {})


def test_a_sparse_file_is_read_without_its_holes() -> None:
    content = bytearray(tarred(b"data", form=tarfile.GNU_FORMAT))
    content[156:157] = b"S"
    content[482] = 1
    content[148:156] = b" " * 8
    content[148:156] = b"%06o\0 " % sum(content[:BLOCK])
    assert read(bytes(content[:BLOCK] + bytes(BLOCK) + content[BLOCK:])) == ({"b/c.txt": b"data"}, {})


def test_a_huge_extended_header_is_scanned_as_text_and_not_parsed() -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 1 << 17
    content = info.tobuf(tarfile.USTAR_FORMAT) + b"1" * info.size + tarred(b"content", form=tarfile.USTAR_FORMAT)
    assert read(content) == ({"extended header": b"1" * info.size, "b/c.txt": b"content"}, {})


@pytest.mark.parametrize(
    "content",
    [b"", b"1", b"1" * 60_000, b"5 a=b", b"999999 a=b\n", b"0 \n", b"-5 a=b\n", b"6 a=b", b"4 a\n" * 3 + b"?"],
)
def test_an_invalid_record_ends_a_pax_header(content: bytes) -> None:
    records, read_bytes = pax_records(b"14 path=a/b.c\n" + content)
    assert records == {b"path": b"a/b.c"}
    assert read_bytes >= 14
