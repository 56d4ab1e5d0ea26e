"""Functions that print bytes as tools such as `od` and `xxd -b` do."""

from __future__ import annotations

from collections.abc import Callable, Iterator

_NAMES = {0: "\\0", 7: "\\a", 8: "\\b", 9: "\\t", 10: "\\n", 11: "\\v", 12: "\\f", 13: "\\r"}


def rows(data: bytes, size: int) -> Iterator[tuple[int, bytes]]:
    """Split data into lines of `size` bytes. Yield the offset and the bytes of each line."""
    for at in range(0, len(data), size):
        yield at, data[at : at + size]


def _lines(data: bytes, offset: str, fields: Callable[[bytes], str]) -> str:
    return "".join(f"{offset % at}{fields(row)}\n" for at, row in rows(data, 16)) + f"{offset % len(data)}\n"


def _words(row: bytes, form: str) -> str:
    return "".join(form % int.from_bytes(row[at : at + 2], "little") for at in range(0, len(row), 2))


def _shown(byte: int) -> str:
    return _NAMES.get(byte, chr(byte) if 32 <= byte < 127 else f"{byte:03o}")


def od_characters(data: bytes) -> str:
    """Return the output of `od -c`."""
    return _lines(data, "%07o", lambda row: "".join(f"{_shown(byte):>4}" for byte in row))


def od_octal_bytes(data: bytes) -> str:
    """Return the output of `od -b`."""
    return _lines(data, "%07o", lambda row: "".join(f" {byte:03o}" for byte in row))


def od_bytes_and_characters(data: bytes) -> str:
    """Return the output of `od -t x1c`."""
    return _lines(
        data,
        "%07o",
        lambda row: (
            "".join(f"{byte:4x}" if byte > 15 else f"  {byte:02x}" for byte in row)
            + "\n       "
            + "".join(f"{_shown(byte):>4}" for byte in row)
        ),
    )


def od_words_and_characters(data: bytes) -> str:
    """Return the output of `od -t x2c`."""
    return _lines(
        data, "%07o", lambda row: _words(row, "    %04x") + "\n       " + "".join(f"{_shown(byte):>4}" for byte in row)
    )


def od_octal_words(data: bytes) -> str:
    """Return the output of `od` without options."""
    return _lines(data, "%07o", lambda row: _words(row, " %06o"))


def od_decimal_bytes(data: bytes) -> str:
    """Return the output of `od -tu1`."""
    return _lines(data, "%07o", lambda row: "".join(f" {byte:3}" for byte in row))


def od_decimal_words(data: bytes) -> str:
    """Return the output of `od -d`."""
    return _lines(data, "%07o", lambda row: _words(row, " %5d"))


def od_decimal_offsets(data: bytes) -> str:
    """Return the output of `od -A d -c`."""
    return _lines(data, "%07d", lambda row: "".join(f"{_shown(byte):>4}" for byte in row))


def hexdump_characters(data: bytes) -> str:
    """Return the output of `hexdump -c`."""
    return _lines(data, "%07x", lambda row: "".join(f"{_shown(byte):>4}" for byte in row))


def hexdump_octal(data: bytes) -> str:
    """Return the output of `hexdump -b`."""
    return _lines(data, "%07x", lambda row: "".join(f" {byte:03o}" for byte in row))


def hexdump_decimal(data: bytes) -> str:
    """Return the output of `hexdump -d`."""
    return _lines(data, "%07x", lambda row: _words(row, "   %05d"))


def xxd_binary(data: bytes, size: int = 6) -> str:
    """Return the output of `xxd -b -c SIZE`."""
    return "".join(
        f"{at:08x}: {' '.join(f'{byte:08b}' for byte in row):<{9 * size - 1}}  {_text(row)}\n"
        for at, row in rows(data, size)
    )


def xxd_binary_wide(data: bytes) -> str:
    """Return the output of `xxd -b -c 8`."""
    return xxd_binary(data, 8)


def _text(row: bytes) -> str:
    return "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
