"""Functions that build hostile zip, tar, 7z, ar, cpio and rpm archives."""

from __future__ import annotations

import io
import lzma
import struct
import tarfile
import zipfile
import zlib

from tests.hostile.registry import hostile, hostile_with_leak

MIB = 1 << 20


def local_header(name: bytes, body: bytes, *, size: int, crc: int, method: int = 8, extra: bytes = b"") -> bytes:
    """Return a file of a zip archive: its local header and its compressed data.

    Args:
        name: The name of the file.
        body: The compressed data.
        size: The declared size of the file.
        crc: The declared checksum.
        method: The number of the compression method.
        extra: The extra field of the header.
    """
    fixed = struct.pack("<4sHHHHHIIIHH", b"PK\3\4", 20, 0, method, 0, 0, crc, len(body), size, len(name), len(extra))
    return fixed + name + extra + body


def directory_entry(name: bytes, *, packed: int, size: int, crc: int, offset: int, method: int = 8) -> bytes:
    """Return a zip archive's directory entry for one file.

    Args:
        name: The name of the file.
        packed: The declared size of the compressed data in bytes.
        size: The declared size of the file in bytes.
        crc: The declared checksum.
        offset: The offset of the file's local header.
        method: The number of the compression method.
    """
    head = struct.pack("<4sHHHHHHIII", b"PK\1\2", 20, 20, 0, method, 0, 0, crc, packed, size)
    return head + struct.pack("<HHHHHII", len(name), 0, 0, 0, 0, 0, offset) + name


def directory_end(count: int, size: int, offset: int) -> bytes:
    """Return the record at the end of a zip archive.

    Args:
        count: The number of entries in the directory.
        size: The size of the directory in bytes.
        offset: The offset of the directory.
    """
    return struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, min(count, 65535), min(count, 65535), size, offset, 0)


def deflated(content: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(content) + packer.flush()


@hostile("zip", "60,000 directory entries that all name the same 16 MB", unread=True)
def zip_overlapping() -> bytes:
    content = bytes(16 * MIB)
    body, crc = deflated(content), zlib.crc32(content)
    head = local_header(b"a", body, size=len(content), crc=crc)
    entry = directory_entry(b"a", packed=len(body), size=len(content), crc=crc, offset=0)
    return head + entry * 60_000 + directory_end(60_000, len(entry) * 60_000, len(head))


@hostile("zip", "quoted members: each deflate stream holds the headers of the next")
def zip_quoted() -> bytes:
    content = bytes(8 * MIB)
    kernel = deflated(content)
    headers = [local_header(b"%04d" % number, b"", size=len(content), crc=0) for number in range(500)]
    body = b"".join(headers) + kernel
    entries, offset = [], 0
    for number, header in enumerate(headers):
        packed = len(body) - offset - len(header)
        name = b"%04d" % number
        entries.append(directory_entry(name, packed=packed, size=len(content), crc=0, offset=offset))
        offset += len(header)
    directory = b"".join(entries)
    return body + directory + directory_end(len(entries), len(directory), len(body))


@hostile("zip", "16 layers of zip, each holding the next one 16 times")
def zip_layers() -> bytes:
    content = b"nothing\n"
    for _ in range(16):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for number in range(16):
                archive.writestr(zipfile.ZipInfo(f"{number}.zip"), content)
        content = buffer.getvalue()
        if len(content) > 4 * MIB:
            break
    return content


@hostile("zip", "1,000,000 empty members", large=True, unread=True)
def zip_entries() -> bytes:
    entry = directory_entry(b"a", packed=0, size=0, crc=0, offset=0, method=0)
    head = local_header(b"a", b"", size=0, crc=0, method=0)
    return head + entry * 1_000_000 + directory_end(1_000_000, len(entry) * 1_000_000, len(head))


@hostile("zip", "1,000,000 local headers and no directory", large=True, unread=True)
def zip_headers_without_directory() -> bytes:
    return local_header(b"a", b"", size=0, crc=0, method=0) * 1_000_000


@hostile("zip", "local headers without a directory, each claiming 4 GB of stored bytes")
def zip_stored_sizes() -> bytes:
    head = struct.pack("<4sHHHHHIIIHH", b"PK\3\4", 20, 0, 0, 0, 0, 0, 0, 0xFFFFFFFF, 1, 0) + b"a"
    # Each header declares 4 GB of content, but is directly followed by the next header.
    return head * 20_000


@hostile("zip", "8,000 deflated members without a directory, all over the same tail")
def zip_deflated_headers() -> bytes:
    tail = deflated(bytes(4 * MIB))
    return local_header(b"a", b"", size=0, crc=0) * 8_000 + tail


@hostile("zip", "names of 65,535 bytes")
def zip_names() -> bytes:
    name = b"n" * 65_535
    head = local_header(name, b"", size=0, crc=0, method=0)
    entry = directory_entry(name, packed=0, size=0, crc=0, offset=0, method=0)
    return head + entry * 200 + directory_end(200, len(entry) * 200, len(head))


@hostile_with_leak("zip", "the first member has a wrong checksum, the second one is the leak", unread=True)
def zip_bad_checksum(leak: bytes) -> bytes:
    first = local_header(b"a", deflated(b"x"), size=1, crc=1)
    second = local_header(b"b", deflated(leak), size=len(leak), crc=zlib.crc32(leak))
    entries = directory_entry(b"a", packed=len(deflated(b"x")), size=1, crc=1, offset=0)
    packed = len(deflated(leak))
    entries += directory_entry(b"b", packed=packed, size=len(leak), crc=zlib.crc32(leak), offset=len(first))
    return first + second + entries + directory_end(2, len(entries), len(first + second))


@hostile("zip", "members compressed by bzip2 and LZMA, 400 MB each", large=True)
def zip_other_methods() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, method in (("a", zipfile.ZIP_LZMA), ("b", zipfile.ZIP_BZIP2)):
            with archive.open(_entry(name, method), "w") as member:
                for _ in range(100):
                    member.write(bytes(4 * MIB))
    return buffer.getvalue()


def _entry(name: str, method: int) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)
    entry.compress_type = method
    return entry


def pax_block(payload: bytes, kind: bytes = tarfile.XHDTYPE) -> bytes:
    """Return a PAX header for a tar archive. `payload` has the header's records."""
    info = tarfile.TarInfo("x")
    info.type, info.size = kind, len(payload)
    return info.tobuf(tarfile.USTAR_FORMAT) + payload + bytes(-len(payload) % 512)


def tar_member(name: str, content: bytes) -> bytes:
    """Return the header and the content of one regular file in a tar archive."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    return info.tobuf(tarfile.USTAR_FORMAT) + content + bytes(-len(content) % 512)


@hostile("tar", "a PAX header of 256 kB of digits")
def tar_digits() -> bytes:
    return pax_block(b"1" * (1 << 18)) + bytes(1024)


@hostile_with_leak("tar", "the leak, then a PAX header of 1 MB of digits")
def tar_leak_before_digits(leak: bytes) -> bytes:
    return tar_member("a.txt", leak) + pax_block(b"1" * MIB) + bytes(1024)


@hostile("tar", "a PAX header of 1,000,000 records", large=True)
def tar_records() -> bytes:
    return pax_block(b"".join(b"17 a%07d=aaaa\n" % number for number in range(1_000_000))) + bytes(1024)


@hostile("tar", "2,000 PAX headers, each for the next file")
def tar_pax_chain() -> bytes:
    return pax_block(b"11 path=aa\n") * 2_000 + tar_member("b", b"x") + bytes(1024)


@hostile("tar", "a global PAX header that gives every file a size of 10 ** 18")
def tar_global_size() -> bytes:
    record = b"28 size=1000000000000000000\n"
    return pax_block(record, tarfile.XGLTYPE) + tar_member("b", b"x") * 100 + bytes(1024)


@hostile("tar", "sparse maps of 100,000 pieces")
def tar_sparse() -> bytes:
    count = 100_000
    numbers = b"%d\n" % count + b"".join(b"%d\n1\n" % (number * 1_000_000) for number in range(count))
    pax = b"".join(
        b"%d %s\n" % (len(record) + 4, record)
        for record in (b"GNU.sparse.major=1", b"GNU.sparse.minor=0", b"GNU.sparse.name=a")
    )
    pax += b"39 GNU.sparse.realsize=100000000000000\n"
    body = numbers + bytes(-len(numbers) % 512) + b"x" * 512
    return pax_block(pax) + tar_member("s", body) + bytes(1024)


@hostile("tar", "negative and base-256 sizes")
def tar_sizes() -> bytes:
    header = bytearray(tar_member("a", b""))
    header[124:136] = b"\xff" * 12
    _checksum(header)
    large = bytearray(tar_member("a", b""))
    large[124:136] = b"\x80" + b"\x7f" * 11
    _checksum(large)
    return bytes(header) + bytes(large) + bytes(1024)


def _checksum(header: bytearray) -> None:
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header[:512])


@hostile("tar", "1,000,000 empty files, in gzip", large=True, unread=True)
def tar_entries() -> bytes:
    import gzip

    return gzip.compress(tar_member("a", b"") * 1_000_000 + bytes(1024), 1)


@hostile("tar", "5,000 GNU long names of 100 kB that compress to nothing, in gzip", large=True)
def tar_long_names() -> bytes:
    name = b"n" * 100_000
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, len(name)
    block = info.tobuf(tarfile.GNU_FORMAT) + name + bytes(-len(name) % 512) + tar_member("a", b"")
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    return b"".join(packer.compress(block) for _ in range(5_000)) + packer.flush()


def seven_zip(header: bytes, packed: bytes = b"") -> bytes:
    """Return a 7z file with a start header, the compressed bytes `packed`, and `header`."""
    start = struct.pack("<QQL", len(packed), len(header), zlib.crc32(header))
    return b"7z\xbc\xaf\x27\x1c\0\4" + struct.pack("<L", zlib.crc32(start)) + start + packed + header


def number(value: int) -> bytes:
    """Return the number as a 7z header encodes it in nine bytes."""
    return b"\xff" + struct.pack("<Q", value)


def encoded_header(header: bytes, *, declared: int | None = None, dictionary: bytes = b"\x18") -> bytes:
    """Return a 7z file whose header is compressed.

    Args:
        header: The header before compression.
        declared: The declared size of the header. None means the true size.
        dictionary: The byte that encodes the size of the decompressor's dictionary.
    """
    packed = lzma.compress(header, format=lzma.FORMAT_RAW, filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 24}])
    size = len(header) if declared is None else declared
    encoded = b"\x17\x06" + number(0) + number(1) + b"\x09" + number(len(packed)) + b"\0"
    encoded += b"\x07\x0b" + number(1) + b"\0" + number(1) + b"\x21\x21" + number(1) + dictionary
    encoded += b"\x0c" + number(size) + b"\0\0"
    return seven_zip(encoded, packed)


@hostile("7z", "a header of 1.3 kB that declares 4,000,000 empty files", unread=True)
def seven_zip_entries() -> bytes:
    count = 4_000_000
    names = b"\x11" + number(1 + 2 * count) + b"\0" + bytes(2 * count)
    return encoded_header(b"\x01\x05" + number(count) + names + b"\0\0")


@hostile("7z", "an encoded header that expands to 600 MB", large=True, unread=True)
def seven_zip_header_bomb() -> bytes:
    return encoded_header(b"\x01\x05" + number(1) + b"\x19" + number(600 * MIB - 64) + bytes(600 * MIB - 64))


@hostile("7z", "a dictionary of 4 GB", unread=True)
def seven_zip_dictionary() -> bytes:
    return encoded_header(b"\x01\x05" + number(1) + b"\0\0", dictionary=b"\x28")


@hostile("7z", "2 ** 40 folders, and 2 ** 60 of everything else", unread=True)
def seven_zip_counts() -> bytes:
    streams = b"\x04\x06" + number(0) + number(1 << 60) + b"\x09" + number(1)
    folders = b"\x07\x0b" + number(1 << 40) + b"\0" + number(1 << 40)
    return seven_zip(b"\x01" + streams + b"\0" + folders + b"\0\0")


@hostile("7z", "a plain header of 1,000,000 attribute bytes and undefined times")
def seven_zip_attributes() -> bytes:
    count = 1_000_000
    header = b"\x01\x05" + number(count) + b"\x14" + number(2 + 8 * count) + b"\1\0" + bytes(8 * count) + b"\0\0"
    return encoded_header(header)


@hostile("ar", "400,000 empty members", large=True, unread=True)
def ar_members() -> bytes:
    return b"!<arch>\n" + b"%-16s%-12d%-6d%-6d%-8s%-10d`\n" % (b"a", 0, 0, 0, b"644", 0) * 400_000


@hostile_with_leak("ar", "the leak, then a member that claims 9,999,999,999 bytes", unread=True)
def ar_size(leak: bytes) -> bytes:
    header = b"%-16s%-12d%-6d%-6d%-8s%-10d`\n"
    body = leak + b"\n" * (len(leak) % 2)
    first = header % (b"a.txt", 0, 0, 0, b"644", len(leak)) + body
    return b"!<arch>\n" + first + header % (b"b", 0, 0, 0, b"644", 9_999_999_999) + b"x"


def cpio_entry(name: bytes, body: bytes, *, size: int | None = None, name_size: int | None = None) -> bytes:
    """Return one file of a cpio archive. The header declares `size` and `name_size`, by default the true sizes."""
    numbers = [1, 0o100644, 0, 0, 1, 0, len(body) if size is None else size, 0, 0, 0, 0, len(name) + 1, 0]
    numbers[11] = numbers[11] if name_size is None else name_size
    header = b"070701" + b"".join(b"%08X" % value for value in numbers)
    return header + name + b"\0" + bytes(-(110 + len(name) + 1) % 4) + body + bytes(-len(body) % 4)


@hostile_with_leak("cpio", "the leak, then sizes of 4 GB", unread=True)
def cpio_sizes(leak: bytes) -> bytes:
    return cpio_entry(b"a.txt", leak) + cpio_entry(b"b", b"x", size=0xFFFFFFFF) + cpio_entry(b"c", b"x")


@hostile("cpio", "400,000 empty files", large=True, unread=True)
def cpio_entries() -> bytes:
    return cpio_entry(b"a", b"") * 400_000


@hostile_with_leak("cpio", "the leak, then a name of 4 GB", unread=True)
def cpio_name(leak: bytes) -> bytes:
    return cpio_entry(b"a.txt", leak) + cpio_entry(b"b", b"x", name_size=0xFFFFFFFF) + bytes(4096)


@hostile("rpm", "headers that claim 4 GB of index", unread=True)
def rpm_header() -> bytes:
    header = b"\x8e\xad\xe8\x01" + bytes(4) + struct.pack(">II", 0x0FFFFFFF, 0x7FFFFFFF)
    return b"\xed\xab\xee\xdb" + bytes(92) + header + bytes(4096)


@hostile("rpm", "headers of 40 MB in front of a bomb")
def rpm_payload() -> bytes:
    import bz2

    size = 40 * MIB
    header = b"\x8e\xad\xe8\x01" + bytes(4) + struct.pack(">II", 0, size) + bytes(size)
    small = b"\x8e\xad\xe8\x01" + bytes(4) + struct.pack(">II", 0, 0)
    return b"\xed\xab\xee\xdb" + bytes(92) + small + header + bz2.compress(bytes(64 * MIB))
