"""Functions that build hostile git packs, bundles, trees and refs."""

from __future__ import annotations

import hashlib
import zlib

from tests.hostile.registry import hostile, hostile_with_leak

MIB = 1 << 20
COMMIT, TREE, BLOB, OFFSET_DELTA, NAMED_DELTA = 1, 2, 3, 6, 7


def entry_head(kind: int, size: int) -> bytes:
    """Return the header of a pack entry. `size` is the size of the entry's content in bytes."""
    digits = [(kind << 4) | (size & 15)]
    size >>= 4
    while size:
        digits[-1] |= 0x80
        digits.append(size & 0x7F)
        size >>= 7
    return bytes(digits)


def distance(value: int) -> bytes:
    """Encode the distance in bytes from a delta back to its base, as git packs do."""
    digits = [value & 0x7F]
    while value := value >> 7:
        value -= 1
        digits.append(0x80 | (value & 0x7F))
    return bytes(reversed(digits))


def length(value: int) -> bytes:
    """Return a size in bytes as a git delta encodes it."""
    digits = []
    while value > 0x7F:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*digits, value])


def pack_of(entries: list[bytes], count: int | None = None) -> bytes:
    """Return a git pack of these entries. The header declares `count` entries, by default the true number."""
    total = len(entries) if count is None else count
    body = b"PACK" + (2).to_bytes(4, "big") + total.to_bytes(4, "big") + b"".join(entries)
    return body + hashlib.sha1(body).digest()


def plain_entry(content: bytes, kind: int = BLOB) -> bytes:
    """Return the pack entry of an object that is not a delta."""
    return entry_head(kind, len(content)) + zlib.compress(content, 1)


def copies(base: int, size: int) -> bytes:
    """Return a git delta that repeats the beginning of its base.

    Args:
        base: The size of the base in bytes.
        size: The size of the result in bytes.
    """
    part = min(base, 0xFFFFFF)
    command = b"\xf0" + part.to_bytes(3, "little")
    return (
        length(base)
        + length(size)
        + command * (size // part)
        + (b"\xf0" + (size % part).to_bytes(3, "little") if size % part else b"")
    )


def delta_entry(delta: bytes, back: int) -> bytes:
    """Return the pack entry of a delta. Its base begins `back` bytes before the entry."""
    return entry_head(OFFSET_DELTA, len(delta)) + distance(back) + zlib.compress(delta, 1)


def deltas_of(base: bytes, deltas: list[bytes]) -> bytes:
    """Return a git pack of one object and several deltas of it."""
    entries = [plain_entry(base)]
    at = len(entries[0])
    for delta in deltas:
        entries.append(delta_entry(delta, at))
        at += len(entries[-1])
    return pack_of(entries)


@hostile(
    "git pack", "200 deltas of one bomb: each is the same 16 MB of zeros and its number", delivery="pack", unread=True
)
def pack_deltas_of_bomb() -> bytes:
    base = bytes(16 * MIB - 1)
    return deltas_of(base, [copies(len(base), len(base))[:-4] + _tail(len(base), number) for number in range(200)])


def _tail(size: int, number: int) -> bytes:
    """Return a git delta's last two instructions: copy all but three bytes of the base, and insert `number`."""
    return b"\xf0" + (size - 3).to_bytes(3, "little") + b"\3" + b"%03d" % number


@hostile("git pack", "200 deltas of one small gzip bomb, each other by three bytes", delivery="pack")
def pack_deltas_of_gzip() -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    base = b"".join([*(packer.compress(bytes(4 * MIB)) for _ in range(60)), packer.flush()])
    deltas = []
    for number in range(200):
        size = len(base) + 3
        command = b"\xf0" + len(base).to_bytes(3, "little") + b"\3" + b"%03d" % number
        deltas.append(length(len(base)) + length(size) + command)
    return deltas_of(base, deltas)


@hostile("git pack", "a delta that makes 1 GB of 64 kB", delivery="pack", unread=True)
def pack_delta_bomb() -> bytes:
    base = bytes(64 * 1024)
    return deltas_of(base, [copies(len(base), 1024 * MIB)])


@hostile("git pack", "a chain of 10,000 deltas", delivery="pack")
def pack_delta_chain() -> bytes:
    base = b"x" * 4096
    entries = [plain_entry(base)]
    for number in range(10_000):
        delta = length(4096) + length(4096) + b"\xb0\xfc\x0f" + b"\4" + b"%04d" % (number % 10_000)
        entries.append(delta_entry(delta, len(entries[-1])))
    return pack_of(entries)


@hostile("git pack", "a chain of 2,000 deltas of 8 MB each", delivery="pack", unread=True)
def pack_wide_chain() -> bytes:
    size = 8 * MIB
    entries = [plain_entry(bytes(size))]
    for number in range(2_000):
        delta = length(size) + length(size) + b"\xf0" + (size - 4).to_bytes(3, "little") + b"\4" + b"%04d" % number
        entries.append(delta_entry(delta, len(entries[-1])))
    return pack_of(entries)


@hostile(
    "git pack", "sizes that lie: 1 byte declared for 200 MB, and 2 ** 50 for one byte", delivery="pack", unread=True
)
def pack_sizes() -> bytes:
    small = entry_head(BLOB, 1) + zlib.compress(bytes(200 * MIB), 9)
    large = entry_head(BLOB, 1 << 50) + zlib.compress(b"x")
    return pack_of([large, small])


@hostile("git pack", "4,000,000,000 objects declared, none sent", delivery="pack", unread=True)
def pack_count() -> bytes:
    return pack_of([], 4_000_000_000)


@hostile("git pack", "250,000 empty blobs and deltas of nothing", delivery="pack", large=True)
def pack_objects() -> bytes:
    return pack_of(
        [plain_entry(b"")] * 125_000 + [entry_head(NAMED_DELTA, 2) + bytes(20) + zlib.compress(b"\0\0")] * 125_000
    )


@hostile("git pack", "deltas of each other by name", delivery="pack")
def pack_delta_loop() -> bytes:
    delta = length(1) + length(1) + b"\1x"
    named = [entry_head(NAMED_DELTA, len(delta)) + bytes([number]) * 20 + zlib.compress(delta) for number in range(200)]
    return pack_of(named * 50)


@hostile("git pack", "a tree of 100,000 names", delivery="pack")
def pack_wide_tree() -> bytes:
    blob = hashlib.sha1(b"blob 0\0").digest()
    tree = b"".join(b"100644 n%06d\0" % number + blob for number in range(100_000))
    oid = hashlib.sha1(b"tree %d\0" % len(tree) + tree).hexdigest()
    commit = f"tree {oid}\nauthor a <a> 1 +0000\ncommitter a <a> 1 +0000\n\nx\n".encode()
    return pack_of([plain_entry(commit, COMMIT), plain_entry(tree, TREE), plain_entry(b"")])


@hostile("git pack", "a tree with names that are not UTF-8, empty, or hold NUL and slashes", delivery="pack")
def pack_names() -> bytes:
    blob = hashlib.sha1(b"blob 0\0").digest()
    names = [b"\xff\xfe\xc3\x28", b"", b"..", b"a/b", b"\xed\xa0\x80", b"x" * 60_000, b"\x1b]0;owned\x07", b"999999 "]
    tree = b"".join(b"100644 " + name + b"\0" + blob for name in names) + b"100644 cut\0" + blob[:7]
    return pack_of([plain_entry(tree, TREE), plain_entry(b"")])


@hostile("git pack", "a commit with 200,000 parents and a message of 40 MB", delivery="pack", large=True)
def pack_commit() -> bytes:
    head = b"tree " + b"0" * 40 + b"\n" + (b"parent " + b"1" * 40 + b"\n") * 200_000
    return pack_of([plain_entry(head + b"author a <a> 1 +0000\n\n" + b"x" * (40 * MIB), COMMIT)])


@hostile("git pack file", "200 deltas of one bomb in a pack that lies in a repository as a file", unread=True)
def pack_file_deltas() -> bytes:
    return pack_deltas_of_bomb()


@hostile("git pack file", "a chain of 10,000 deltas, last one first")
def pack_file_chain() -> bytes:
    return pack_delta_chain()


@hostile_with_leak("git pack file", "the leak, then sizes that lie", unread=True)
def pack_file_leak_before_sizes(leak: bytes) -> bytes:
    lying = entry_head(BLOB, 1 << 40) + zlib.compress(b"x")
    return pack_of([plain_entry(leak), lying])


@hostile("git bundle", "1,000,000 refs in front of an empty pack", large=True)
def bundle_refs() -> bytes:
    refs = b"".join(b"%040x refs/heads/b%d\n" % (number, number) for number in range(1_000_000))
    return b"# v2 git bundle\n" + refs + b"\n" + pack_of([])


@hostile("git bundle", "a header line without an end", unread=True)
def bundle_header() -> bytes:
    return b"# v3 git bundle\n@object-format=" + b"x" * (16 * MIB)


@hostile("git tree", "10 ** 8 paths to one blob by 8 trees", delivery="history")
def history_tree_bomb() -> bytes:
    return b"bomb 10 8"


@hostile("git tree", "10,000 folders inside each other", delivery="history")
def history_deep_tree() -> bytes:
    return b"bomb 1 10000"


@hostile("git tree", "3 MB of the beginnings of entries that do not end", delivery="history")
def history_damaged_tree() -> bytes:
    return b"damaged 500000"


@hostile("git tree", "100,000 names in one folder", delivery="history", large=True)
def history_wide_tree() -> bytes:
    lines = [_commit(b"refs/heads/main", b"x"), b"M 100644 inline first\ndata 1\nx\n"]
    lines += [b"M 100644 :1 n%06d\n" % number for number in range(100_000)]
    return b"blob\nmark :1\ndata 1\ny\n" + b"".join(lines)


@hostile("git refs", "100,000 refs", delivery="history", large=True)
def history_refs() -> bytes:
    commit = _commit(b"refs/heads/main", b"x") + b"M 100644 inline a\ndata 1\nx\n"
    return b"".join(
        [commit, *(b"reset refs/heads/b%06d\nfrom refs/heads/main\n" % number for number in range(100_000))]
    )


@hostile("git names", "paths, authors and branches that are not UTF-8", delivery="history")
def history_names() -> bytes:
    commit = _commit(b"refs/heads/\xff\xfe", b"\xff\xfe\xc3\x28 " * 1000)
    return commit + b'M 100644 inline "\\377\\376\\033]0;x\\007"\ndata 1\nx\n'


@hostile("git history", "blobs that are bombs: gzip, database, PDF", delivery="history")
def history_bombs() -> bytes:
    from tests.hostile.inputs.documents import pdf_zeros_in_streams, sqlite_generated_row
    from tests.hostile.inputs.streams import gzip_layers

    parts = [_commit(b"refs/heads/main", b"x")]
    for number, content in enumerate((gzip_layers(), sqlite_generated_row(), pdf_zeros_in_streams())):
        parts.append(b"M 100644 inline f%d\ndata %d\n" % (number, len(content)) + content + b"\n")
    return b"".join(parts)


def _commit(ref: bytes, message: bytes) -> bytes:
    return b"commit %s\nauthor A <a@b> 1 +0000\ncommitter A <a@b> 1 +0000\ndata %d\n%s\n" % (ref, len(message), message)
