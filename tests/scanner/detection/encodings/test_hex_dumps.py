"""Tests for hex dumps in the format of every common tool."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import pytest

from scanner.detection import Detector, Document, Place, sha256_digest
from tests.scanner.detection.token_encoders import random_token


def rows(data: bytes, size: int) -> Iterator[tuple[int, bytes]]:
    for at in range(0, len(data), size):
        yield at, data[at : at + size]


def shown(row: bytes) -> str:
    return "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)


def grouped(row: bytes, size: int, gap: str = " ") -> str:
    return gap.join(row[at : at + size].hex() for at in range(0, len(row), size))


def xxd(data: bytes) -> str:
    return "".join(f"{at:08x}: {grouped(row, 2):<39}  {shown(row)}\n" for at, row in rows(data, 16))


def xxd_plain(data: bytes) -> str:
    return "".join(f"{row.hex()}\n" for _, row in rows(data, 30))


def hexdump(data: bytes) -> str:
    lines = (
        f"{at:08x}  {row[:8].hex(' '):<23}  {row[8:].hex(' '):<23}  |{shown(row)}|\n" for at, row in rows(data, 16)
    )
    return "".join(lines) + f"{len(data):08x}\n"


def od_bytes(data: bytes) -> str:
    return "".join(f"{at:07o} {row.hex(' ')}\n" for at, row in rows(data, 16)) + f"{len(data):07o}\n"


def od_bytes_without_offsets(data: bytes) -> str:
    return "".join(f" {row.hex(' ')}\n" for _, row in rows(data, 16))


def od_words(data: bytes) -> str:
    def words(row: bytes) -> str:
        return " ".join(row[at : at + 2][::-1].hex().rjust(4, "0") for at in range(0, len(row), 2))

    return "".join(f"{at:07o} {words(row)}\n" for at, row in rows(data, 16)) + f"{len(data):07o}\n"


def bit_converter(data: bytes) -> str:
    return data.hex("-").upper()


def tcpdump(data: bytes) -> str:
    return "".join(f"\t0x{at:04x}:  {grouped(row, 2):<39}  {shown(row)}\n" for at, row in rows(data, 16))


def wireshark(data: bytes) -> str:
    return "".join(
        f"{at:04x}   {row[:8].hex(' '):<23}  {row[8:].hex(' '):<23}   {shown(row)}\n" for at, row in rows(data, 16)
    )


def curl_trace(data: bytes) -> str:
    head = f"=> Send header, {len(data)} bytes (0x{len(data):x})\n"
    return head + "".join(f"{at:04x}: {row.hex(' ').ljust(47)} {shown(row)}\n" for at, row in rows(data, 16))


def format_hex(data: bytes) -> str:
    head = "           00 01 02 03 04 05 06 07 08 09 0A 0B 0C 0D 0E 0F\n\n"
    return head + "".join(f"{at:08X}   {row.hex(' ').upper():<47}  {shown(row)}\n" for at, row in rows(data, 16))


def intel_hex(data: bytes) -> str:
    lines = []
    for at, row in rows(data, 16):
        body = bytes((len(row), at >> 8, at & 255, 0)) + row
        lines.append(f":{(body + bytes((-sum(body) & 255,))).hex().upper()}\n")
    return "".join(lines) + ":00000001FF\n"


def go_bytes(data: bytes) -> str:
    return f"[{' '.join(map(str, data))}]\n"


def node_buffer(data: bytes) -> str:
    return '{\n  "data": [\n    ' + ",\n    ".join(map(str, data)) + "\n  ]\n}\n"


def xxd_words(data: bytes) -> str:
    def words(row: bytes) -> str:
        return " ".join(row[at : at + 4][::-1].hex().rjust(8) for at in range(0, len(row), 4))

    return "".join(f"{at:08x}: {words(row):<35}  {shown(row)}\n" for at, row in rows(data, 16))


def one_byte_per_directive(data: bytes) -> str:
    return "".join(f"\t.byte\t0x{byte:02x}\n" for byte in data)


def gdb_bytes(data: bytes) -> str:
    return "".join(
        f"0x7fffffffe{at:03x}:\t" + "\t".join(f"0x{byte:02x}" for byte in row) + "\n" for at, row in rows(data, 8)
    )


def python_hex(data: bytes) -> str:
    return str([hex(byte) for byte in data])


def kernel_log(data: bytes) -> str:
    return "".join(f"[ 12.{at:06}] raw: {at:08x}: {row.hex(' '):<47}  {shown(row)}\n" for at, row in rows(data, 16))


def xxd_capitals(data: bytes) -> str:
    return "".join(f"{at:08x}: {grouped(row, 2).upper():<39}  {shown(row)}\n" for at, row in rows(data, 16))


def windbg(data: bytes) -> str:
    return "".join(
        f"00007ff6`{at:08x}  {row[:8].hex(' '):<23}-{row[8:].hex(' '):<23}  {shown(row)}\n"
        for at, row in rows(data, 16)
    )


def hexyl(data: bytes) -> str:
    return "".join(
        f"│{at:08x}│ {row[:8].hex(' '):<23} ┊ {row[8:].hex(' '):<23} │{shown(row)}│\n" for at, row in rows(data, 16)
    )


def netty(data: bytes) -> str:
    return "".join(f"|{at:08x}| {row.hex(' '):<47} |{shown(row)}|\n" for at, row in rows(data, 16))


def hexyl_in_a_log(data: bytes) -> str:
    return "".join(f"2026-01-02 dump: {line}\n" for line in netty(data).splitlines())


def rust_debug(data: bytes) -> str:
    return f"[{', '.join(f'{byte:x}' for byte in data)}]"


def microsoft_assembler(data: bytes) -> str:
    return "db " + ",".join(f"{byte:02x}h" for byte in data)


TOOLS: tuple[Callable[[bytes], str], ...] = (
    *(xxd, xxd_plain, hexdump, od_bytes, od_bytes_without_offsets, od_words, bit_converter, tcpdump, wireshark),
    *(curl_trace, format_hex, intel_hex, go_bytes, node_buffer),
    *(xxd_words, one_byte_per_directive, gdb_bytes, python_hex, kernel_log),
    *(xxd_capitals, windbg, hexyl, netty, hexyl_in_a_log, rust_debug, microsoft_assembler),
)


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.__name__)
def test_a_dump_is_read_wherever_the_token_begins_in_its_lines(tool: Callable[[bytes], str]) -> None:
    token = random_token(random.Random(7))
    missed = []
    for before in range(64):
        data = b"=" * before + token + b"\nmore text that follows it"
        candidates = Detector().scan(Document(tool(data).encode(), Place("file"))).candidates
        if [found.digest for found in candidates] != [sha256_digest(token)]:
            missed.append(before)
    assert missed == []


def test_text_beside_the_bytes_is_not_taken_for_bytes() -> None:
    """The column that shows the bytes as text may also consist of hexadecimal digits."""
    token = b"r8_" + b"deadbeef" * 4 + b"abcde"
    data = b"abcdefabcdef0123" * 2 + b"4567" + token + b" " * 9
    for tool in (xxd, hexdump, tcpdump, wireshark, curl_trace, format_hex):
        (found,) = Detector().scan(Document(tool(data).encode(), Place("file"))).candidates
        assert found.digest == sha256_digest(token), tool.__name__


def s_records(data: bytes) -> str:
    lines = []
    for at, row in rows(data, 32):
        body = bytes((len(row) + 3, at >> 8, at & 255)) + row
        lines.append(f"S1{(body + bytes((~sum(body) & 255,))).hex().upper()}\n")
    return "".join(lines)


def openssl(data: bytes) -> str:
    return "".join(
        f"{at:04x} - {row[:8].hex(' '):<23}-{row[8:].hex(' '):<23}   {shown(row)}\n" for at, row in rows(data, 16)
    )


def certutil(data: bytes) -> str:
    return "".join(f"{at:04x}\t{row.hex(' '):<47}   {shown(row)}\r\n" for at, row in rows(data, 16))


RARER_TOOLS = (s_records, openssl, certutil)


@pytest.mark.parametrize("tool", RARER_TOOLS, ids=lambda tool: tool.__name__)
def test_dumps_of_rarer_tools_are_read_if_one_line_contains_the_prefix(tool: Callable[[bytes], str]) -> None:
    token = random_token(random.Random(7))
    for before in (2, 9, 10, 16, 18, 25):
        data = b"=" * before + token + b"\nmore text that follows it"
        candidates = Detector().scan(Document(tool(data).encode(), Place("file"))).candidates
        assert [found.digest for found in candidates] == [sha256_digest(token)], before
