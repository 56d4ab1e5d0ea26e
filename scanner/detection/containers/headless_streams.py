"""Recognition of compressed files without a magic number: unusual `.lzma` files, and some Zstandard files."""

from __future__ import annotations

from scanner.detection.containers.decompressors import Codec, lzma_codec, magicless_zstd_codec

_HEAD_BYTES = 4096
_MIN_TEXT = 64
"""A stream is recognized only if it begins with this many bytes of text, unless it ends earlier."""
_MIN_WHOLE_TEXT = 24
_MAX_BLOCK = 128 << 10
_TEXT = bytes((*b"\b\t\n\f\r\x1b", *range(0x20, 0x7F), *range(0x80, 0x100)))


def is_rare_lzma(content: bytes) -> bool:
    """Return whether the content is text in a `.lzma` file with unusual properties or dictionary size.

    The format: https://github.com/tukaani-project/xz/blob/master/doc/lzma-file-format.txt
    """
    size = content[5:13]
    if len(content) < 18 or content[0] >= 225 or content[13] or not (size == b"\xff" * 8 or size[5:] == bytes(3)):
        return False
    return _holds_text(content[:_HEAD_BYTES], lzma_codec())


def is_magicless_zstd(content: bytes) -> bool:
    """Return whether the content is text in a Zstandard frame (RFC 8878) that has no magic number."""
    if len(content) < 16 or content[0] & 0x08:
        return False
    has_window, id_size, size_code = not content[0] & 0x20, (0, 1, 2, 4)[content[0] & 3], content[0] >> 6
    at = 1 + has_window + id_size + (0 if has_window else 1, 2, 4, 8)[size_code]
    block = int.from_bytes(content[at : at + 3], "little")
    is_compressed, size = block >> 1 & 3 == 2, block >> 3
    end = at + 3 + size
    if id_size or not is_compressed or not size <= _MAX_BLOCK or end > len(content):
        return False
    # Decompress the whole first block, because the library returns nothing before the end of the block.
    return _holds_text(content[:end], magicless_zstd_codec())


def _holds_text(head: bytes, codec: Codec) -> bool:
    try:
        decompressor = codec.make()
        text = decompressor.decompress(head, _HEAD_BYTES)
    except codec.errors:
        return False
    return len(text) >= (_MIN_WHOLE_TEXT if decompressor.eof else _MIN_TEXT) and not text.translate(None, _TEXT)
