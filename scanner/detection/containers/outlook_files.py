"""Reader of Outlook's mail stores (PST and OST files), in which each byte is replaced according to a fixed table.

Outlook calls this "compressible encryption": [MS-PST] 5.1.
"""

from __future__ import annotations

from collections.abc import Iterator

from scanner.detection.containers.members import Container, Member, UnreadableError, whole

MAGIC = b"!BDN"
_FIRST_UNICODE_VERSION = 23
_METHOD_IN_UNICODE, _METHOD_IN_ANSI = 513, 461
"""The offset of the byte that names the encryption, in stores with Unicode and with ANSI texts ([MS-PST] 2.2.2.6)."""
_NONE, _PERMUTED = 0, 1
PLAIN_BYTES = bytes.fromhex(
    "47f1b4e60b6a7248854e9eebe2f89453e0bba002e85a09abdbe3bac67cc310dd"
    "39059630f53760828cc9134a6b1df3fb8f2697ca911701c4322d6e3195ffd923"
    "d1005e79dc443b1a28c5615720903d83b943be67d2464276c06d5b7eb20f1629"
    "3ca903540dda5ddff6b7c762cd8d06d3695c86d614f7a56675acb1e94521700c"
    "879f74a4224c6fbf1f56aa2eb3783350b0a392bccf191ca763cb1e4d3e4b1b9b"
    "4fe7f0eead3ab55904ea40552551e57a893868527bfc27aed7bdfa07f4cc8e5f"
    "ef359c842b15d5773449b6120a7f7188fd9d18417d93d8582ccefe24afdeb836"
    "c8a180a69998a82f0e816573e4c2a28ad4e111d0088b2af2ed9a643fc16cf9ec"
)
"""A translation table: the original byte for each byte in the file."""


def is_outlook_store(content: bytes) -> bool:
    """Return whether the content is an Outlook mail store."""
    return content[8:10] in (b"SM", b"SO") and len(content) > _METHOD_IN_ANSI


def outlook_members(container: Container) -> Iterator[Member]:
    """Yield the decoded content of an Outlook mail store as one member."""
    content = whole(container)
    version = int.from_bytes(content[10:12], "little")
    at = _METHOD_IN_UNICODE if version >= _FIRST_UNICODE_VERSION else _METHOD_IN_ANSI
    method = content[at] if at < len(content) else _NONE
    if method not in (_NONE, _PERMUTED):
        raise UnreadableError("encrypted")
    container.meter.enter()
    container.meter.take(len(content))
    body = content[at:]
    # Put a zero byte first, so that the content counts as binary and is searched for compressed attachments.
    yield Member("mails", b"\0" + (body.translate(PLAIN_BYTES) if method == _PERMUTED else body))
