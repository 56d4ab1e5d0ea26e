"""Functions that put a content into an archive or a Word document."""

from __future__ import annotations

import io
import lzma
import struct
import tarfile
import zipfile

from tests.scanner.detection.compression_builders import zstandard_compressed


def zipped(content: bytes, name: str = "b/c.txt", method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr(name, content)
    return buffer.getvalue()


def tarred(content: bytes, name: str = "b/c.txt", form: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def old_tar(content: bytes) -> bytes:
    """Return a tar archive in the oldest format, whose header has no magic number."""
    archive = bytearray(tarred(content, form=tarfile.USTAR_FORMAT))
    archive[257:512] = bytes(255)
    archive[148:156] = b" " * 8
    archive[148:156] = b"%06o\0 " % sum(archive[:512])
    return bytes(archive)


def docx_in_runs(content: bytes) -> bytes:
    """Return a Word document whose text is split into differently formatted pieces of seven letters."""
    pieces = [content[at : at + 7] for at in range(0, len(content), 7)]
    runs = b"".join(b"<w:r><w:rPr><w:b/></w:rPr><w:t>" + piece + b"</w:t></w:r>" for piece in pieces)
    return zipped(b'<?xml version="1.0"?><w:document><w:p>' + runs + b"</w:p></w:document>", "word/document.xml")


def seven_zipped(content: bytes) -> bytes:
    import py7zr

    buffer = io.BytesIO()
    with py7zr.SevenZipFile(buffer, "w") as archive:
        archive.writestr(content, "b/c.txt")
    return buffer.getvalue()


def ar(*members: tuple[bytes, bytes]) -> bytes:
    """Return an ar archive. Each member is a pair of name and content."""
    parts = [b"!<arch>\n"]
    for name, content in members:
        parts.append(b"%-16s%-12d%-6d%-6d%-8s%-10d`\n" % (name, 0, 0, 0, b"100644", len(content)))
        parts.append(content + b"\n" * (len(content) % 2))
    return b"".join(parts)


def deb(content: bytes) -> bytes:
    return ar((b"debian-binary", b"2.0\n"), (b"data.tar.xz", lzma.compress(tarred(content))))


def cpio(content: bytes, name: bytes = b"./b/c.txt") -> bytes:
    parts = []
    for entry, body in ((name, content), (b"TRAILER!!!", b"")):
        numbers = (1, 0o100644, 0, 0, 1, 0, len(body), 0, 0, 0, 0, len(entry) + 1, 0)
        header = b"070701" + b"".join(b"%08X" % number for number in numbers)
        parts.append(header + entry + b"\0" + b"\0" * (-(110 + len(entry) + 1) % 4) + body + b"\0" * (-len(body) % 4))
    return b"".join(parts)


def rpm(content: bytes) -> bytes:
    header = b"\x8e\xad\xe8\x01" + bytes(4) + struct.pack(">II", 1, 5) + bytes(16) + b"name\0"
    lead = b"\xed\xab\xee\xdb" + bytes(92)
    return lead + header + bytes(-len(header) % 8) + header + zstandard_compressed(cpio(content))


def cpio_in_octal(content: bytes, name: bytes = b"./b/c.txt") -> bytes:
    """Return a cpio archive in the octal format `odc`."""
    parts = []
    for entry, body in ((name, content), (b"TRAILER!!!", b"")):
        numbers = b"%06o" * 7 % (0, 1, 0o100644, 0, 0, 1, 0) + b"%011o%06o%011o" % (0, len(entry) + 1, len(body))
        parts.append(b"070707" + numbers + entry + b"\0" + body)
    return b"".join(parts)
