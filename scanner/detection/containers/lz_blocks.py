"""Decoders of blocks compressed with LZ4, LZF, LZO, Snappy or BloscLZ. They limit the size of their output."""

from __future__ import annotations

from scanner.detection.containers.members import UnreadableError
from scanner.detection.limits import Meter

# Count the work once for this many bytes or steps, to save time.
_PAID_AT_ONCE = 1 << 16
_STEPS_PAID_AT_ONCE = 1 << 12
# The largest distance that fits into 13 bits. A larger distance is written as this value and two bytes for the rest.
_BLOSCLZ_NEAR = 8191


class _Output:
    """The decoded bytes of one compressed block, up to a limit."""

    def __init__(self, meter: Meter, before: bytes = b"") -> None:
        self.content = bytearray(before)
        self._most = meter.limits.member_bytes + len(before)
        self._meter = meter
        self._unpaid = 0
        self._steps = 0

    def __enter__(self) -> _Output:
        return self

    def __exit__(self, *_: object) -> None:
        # Count the work on a damaged block too, because callers may try many blocks.
        self.settle()

    def append(self, piece: bytes) -> None:
        self.content += piece
        self._pay(len(piece))

    def copy(self, distance: int, length: int) -> None:
        """Append `length` bytes that are copied from `distance` bytes before the end of the output."""
        start = len(self.content) - distance
        if distance <= 0 or start < 0:
            raise UnreadableError("damaged")
        if len(self.content) + length > self._most:
            raise UnreadableError("member_size")
        if distance >= length:
            self.content += self.content[start : start + length]
        else:
            pattern = bytes(self.content[start:])
            self.content += (pattern * (length // distance + 1))[:length]
        self._pay(length)

    def _pay(self, size: int) -> None:
        if len(self.content) > self._most:
            raise UnreadableError("member_size")
        self._unpaid += size
        self._steps += 1
        if self._unpaid >= _PAID_AT_ONCE or self._steps >= _STEPS_PAID_AT_ONCE:
            self.settle()

    def settle(self) -> None:
        """Count the work of decoding since the last call."""
        self._meter.take(self._unpaid)
        self._meter.step(2 * self._steps)
        self._unpaid = self._steps = 0


def lz4_block(block: bytes, meter: Meter, before: bytes = b"") -> bytes:
    """Return the decompressed content of an LZ4 block.

    The format: https://github.com/lz4/lz4/blob/dev/doc/lz4_Block_format.md

    Args:
        before: The last 64 kB of output before this block.

    Raises:
        UnreadableError: the block is damaged or its content is too large.
    """
    with _Output(meter, before) as output:
        at = 0
        while at < len(block):
            token = block[at]
            at += 1
            literal, at = _lz4_length(block, at, token >> 4)
            if at + literal > len(block):
                raise UnreadableError("damaged")
            output.append(block[at : at + literal])
            at += literal
            if at >= len(block):
                break
            distance = int.from_bytes(block[at : at + 2], "little")
            length, at = _lz4_length(block, at + 2, token & 15)
            output.copy(distance, length + 4)
    return bytes(output.content[len(before) :])


def _lz4_length(block: bytes, at: int, length: int) -> tuple[int, int]:
    if length == 15:
        while True:
            if at >= len(block):
                raise UnreadableError("damaged")
            length += block[at]
            at += 1
            if block[at - 1] != 255:
                break
    return length, at


def lzf_block(block: bytes, meter: Meter, at: int, end: int) -> bytes:
    """Return the decompressed content of the LZF block `block[at:end]`.

    The format is defined by `lzf_d.c` of liblzf.

    Raises:
        UnreadableError: the block is damaged or its content is too large.
    """
    with _Output(meter) as output:
        while at < end:
            control = block[at]
            at += 1
            if control < 32:
                output.append(block[at : min(end, at + control + 1)])
                at += control + 1
                continue
            length = control >> 5
            if length == 7 and at < end:
                length += block[at]
                at += 1
            if at >= end:
                raise UnreadableError("damaged")
            output.copy(((control & 31) << 8) + block[at] + 1, length + 2)
            at += 1
    return bytes(output.content)


def lzo_block(block: bytes, meter: Meter) -> bytes:
    """Return the decompressed content of an LZO1X block.

    The format: https://docs.kernel.org/staging/lzo.html.

    Raises:
        UnreadableError: the block is damaged or its content is too large.
    """
    with _Output(meter) as output:
        at, literals = 0, 0
        if block[:1] > b"\x11":
            at, literals = 1, block[0] - 17
            output.append(block[at : at + literals])
            at, literals = at + literals, min(literals, 4)
        while at < len(block):
            code = block[at]
            at += 1
            if code < 16 and literals == 0:
                length, at = _lzo_length(block, at, code, 15)
                if at + length + 3 > len(block):
                    raise UnreadableError("damaged")
                output.append(block[at : at + length + 3])
                at, literals = at + length + 3, 4
                continue
            if 16 <= code < 64:
                width = 31 if code >= 32 else 7
                length, at = _lzo_length(block, at, code & width, width)
                last = int.from_bytes(block[at : at + 2], "little")
                at, distance = at + 2, (last >> 2) + 1
                if code < 32:
                    distance += ((code & 8) << 11) + 0x3FFF
                    if distance == 0x4000:
                        break  # the end mark
            else:
                length, distance, last = _lzo_near(code, block[at] if at < len(block) else 0, literals)
                at += 1
            output.copy(distance, length + 2)
            literals = last & 3
            output.append(block[at : at + literals])
            at += literals
    return bytes(output.content)


def _lzo_length(block: bytes, at: int, length: int, most: int) -> tuple[int, int]:
    """Return the length that an LZO instruction encodes, and the offset after its last byte."""
    if length:
        return length, at
    begun = at
    while at < len(block) and not block[at]:
        at += 1
    return most + 255 * (at - begun) + (block[at] if at < len(block) else 0), at + 1


def _lzo_near(code: int, following: int, literals: int) -> tuple[int, int, int]:
    """Decode an LZO instruction. Return the copied length minus two, the distance, and the literals that follow."""
    if code >= 64:
        return (code >> 5) - 1, (following << 3) + ((code >> 2) & 7) + 1, code
    if literals == 4:
        return 1, (following << 2) + (code >> 2) + 0x801, code
    return 0, (following << 2) + (code >> 2) + 1, code


def snappy_block(block: bytes, meter: Meter) -> bytes:
    """Return the decompressed content of a Snappy block.

    The format: https://github.com/google/snappy/blob/main/format_description.txt

    Raises:
        UnreadableError: the block is damaged or its content is too large.
    """
    with _Output(meter) as output:
        at = 0
        # Skip the length of the content at the beginning of the block.
        while at < len(block) and block[at] & 128:
            at += 1
        at += 1
        while at < len(block):
            tag = block[at]
            at += 1
            if tag & 3 == 0:
                length = tag >> 2
                if length >= 60:
                    width = length - 59
                    length = int.from_bytes(block[at : at + width], "little")
                    at += width
                if at + length + 1 > len(block):
                    raise UnreadableError("damaged")
                output.append(block[at : at + length + 1])
                at += length + 1
                continue
            if tag & 3 == 1:
                length, distance = 4 + ((tag >> 2) & 7), ((tag >> 5) << 8) | (block[at] if at < len(block) else 0)
                at += 1
            else:
                width = 2 if tag & 3 == 2 else 4
                length, distance = 1 + (tag >> 2), int.from_bytes(block[at : at + width], "little")
                at += width
            output.copy(distance, length)
    return bytes(output.content)


def blosclz_block(block: bytes, meter: Meter) -> bytes:
    """Return the decompressed content of a BloscLZ block.

    The format is defined by `blosclz.c` of c-blosc.

    Raises:
        UnreadableError: the block is damaged or its content is too large.
    """
    with _Output(meter) as output:
        at, first = 0, 31
        while at < len(block):
            control = block[at] & first
            at += 1
            first = 255
            if control < 32:
                output.append(block[at : at + control + 1])
                at += control + 1
                continue
            length, distance = (control >> 5) - 1, (control & 31) << 8
            if length == 6:
                while at < len(block):
                    length += block[at]
                    at += 1
                    if block[at - 1] != 255:
                        break
            if at >= len(block):
                raise UnreadableError("damaged")
            distance += block[at]
            at += 1
            if distance == _BLOSCLZ_NEAR:
                distance += int.from_bytes(block[at : at + 2], "big")
                at += 2
            output.copy(distance + 1, length + 3)
    return bytes(output.content)
