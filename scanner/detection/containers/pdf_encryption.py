"""Decryption of PDFs that open without a password (ISO 32000-1, 7.6, and ISO 32000-2)."""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple

from cryptography.hazmat.decrepit.ciphers.algorithms import ARC4
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC

from scanner.detection.containers.members import Readable, UnreadableError, read_up_to

_PADDING = bytes.fromhex("28BF4E5E4E758A4164004E56FFFA01082E2E00B6D0683E802F0CA9FE6453697A")
_ENCRYPT = re.compile(rb"/Encrypt\s{1,8}(\d{1,9})\s{1,8}(\d{1,5})\s{1,8}R")
_ID = re.compile(rb"/ID\s{0,8}\[\s{0,8}(?=[<(])")
_OBJECT = re.compile(rb"(\d{1,9})\s{1,8}(\d{1,5})\s{1,8}obj\b")
_NUMBER = rb"\s{0,8}(-?\d{1,10})"
_ESCAPE = re.compile(rb"\\([0-7]{1,3}|\r\n|.)", re.DOTALL)
_ESCAPED = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"f": b"\f", b"\n": b"", b"\r": b"", b"\r\n": b""}
_MAX_DICTIONARY_BYTES = 4096
_MAX_STRING_BYTES = 1024
# Lengths of RC4 keys that the library accepts, in bytes.
_RC4_KEY_SIZES = (5, 7, 8, 10, 16)


class Decryption(NamedTuple):
    """The key of a PDF, and the method with which its streams are encrypted.

    Attributes:
        method: `V2` (RC4), `AESV2`, `AESV3`, or `Identity` for no encryption.
        metadata: Whether streams of metadata are encrypted as well.
    """

    key: bytes
    method: str
    metadata: bool

    def opened(self, stream: Readable, dictionary: bytes) -> Readable:
        """Return a stream that decrypts `stream` while it is read.

        Args:
            dictionary: The bytes before the stream, which contain the object number.
        """
        plain = b"/XRef" in dictionary or (not self.metadata and b"/Metadata" in dictionary)
        if self.method == "Identity" or plain:
            return stream
        numbers = _OBJECT.findall(dictionary)
        if not numbers:
            raise UnreadableError("encrypted")
        key = self.key
        if self.method != "AESV3":
            salt = b"sAlT" if self.method == "AESV2" else b""
            number, generation = (int(part) for part in numbers[-1])
            unique = key + (number & 0xFFFFFF).to_bytes(3, "little") + (generation & 0xFFFF).to_bytes(2, "little")
            key = _md5(unique + salt)[: min(len(key) + 5, 16)]
        if self.method == "V2":
            return _Decrypted(stream, _rc4(key))
        start = read_up_to(stream, 16)
        if len(start) < 16:
            return stream
        return _Decrypted(stream, Cipher(AES(key), CBC(start)).decryptor())


class _Decrypted:
    """A stream that decrypts another stream while it is read."""

    def __init__(self, stream: Readable, decryptor: CipherContext) -> None:
        self._stream = stream
        self._decryptor = decryptor
        self._ready = memoryview(b"")

    def read(self, size: int, /) -> bytes:
        while not self._ready:
            chunk = self._stream.read(1 << 16)
            if not chunk:
                return b""
            self._ready = memoryview(self._decryptor.update(chunk))
        piece, self._ready = bytes(self._ready[:size]), self._ready[size:]
        return piece


def decryption_of(content: bytes) -> Decryption:
    """Return the key and the method of an encrypted PDF.

    Raises:
        UnreadableError: the document needs a password or an unsupported method.
    """
    dictionary = _dictionary(content)
    version, revision = _number(dictionary, b"V", 0), _number(dictionary, b"R", 0)
    owner, user = _string(dictionary, b"O"), _string(dictionary, b"U")
    metadata = re.search(rb"/EncryptMetadata\s{0,8}false", dictionary) is None
    if b"/Standard" not in dictionary or len(user) < 32 or len(owner) < 32:
        raise UnreadableError("encrypted")
    if version == 5:
        return Decryption(_key_of_version_5(dictionary, user, revision), _method(dictionary, "AESV3"), metadata)
    if version not in (1, 2, 4):
        raise UnreadableError("encrypted")
    size = _number(dictionary, b"Length", 40) // 8 if version == 2 else 16 if version == 4 else 5
    permissions = (_number(dictionary, b"P", 0) & 0xFFFFFFFF).to_bytes(4, "little")
    start = _ID.search(content)
    identifier = _string_at(content, start.end()) if start else b""
    key = _md5(
        _PADDING + owner[:32] + permissions + identifier + (b"\xff" * 4 if revision >= 4 and not metadata else b"")
    )
    for _ in range(50 if revision >= 3 else 0):
        key = _md5(key[:size])
    key = key[:size]
    if not _is_key(key, user, identifier, revision):
        raise UnreadableError("encrypted")
    return Decryption(key, _method(dictionary, "V2") if version == 4 else "V2", metadata)


def _is_key(key: bytes, user: bytes, identifier: bytes, revision: int) -> bool:
    """Return whether `key` is the document's key (ISO 32000-1, algorithms 4 and 5)."""
    if revision < 3:
        return _rc4(key).update(_PADDING) == user[:32]
    value = _md5(_PADDING + identifier)
    for step in range(20):
        value = _rc4(bytes(byte ^ step for byte in key)).update(value)
    return value == user[:16]


def _key_of_version_5(dictionary: bytes, user: bytes, revision: int) -> bytes:
    encrypted = _string(dictionary, b"UE")
    if len(user) < 48 or len(encrypted) < 32 or revision not in (5, 6):
        raise UnreadableError("encrypted")
    hashed = _hash_of_revision_6 if revision == 6 else lambda salt: hashlib.sha256(salt).digest()
    if hashed(user[32:40]) != user[:32]:
        raise UnreadableError("encrypted")
    return Cipher(AES(hashed(user[40:48])), CBC(bytes(16))).decryptor().update(encrypted[:32])


def _hash_of_revision_6(salt: bytes) -> bytes:
    """Return the hash of the empty password and `salt` (ISO 32000-2, algorithm 2.B)."""
    value = hashlib.sha256(salt).digest()
    turn = 0
    while True:
        encrypted = Cipher(AES(value[:16]), CBC(value[16:32])).encryptor().update(value * 64)
        kind = sum(encrypted[:16]) % 3
        value = hashlib.new(("sha256", "sha384", "sha512")[kind], encrypted).digest()
        turn += 1
        # The loop ends after at most 288 turns, because the last byte is at most 255.
        if turn >= 64 and encrypted[-1] <= turn - 32:
            return value[:32]


def _dictionary(content: bytes) -> bytes:
    reference = _ENCRYPT.search(content)
    if reference is None:
        at = content.find(b"/Encrypt")
    else:
        place = re.search(rb"(?:^|[\s>])0{0,9}" + reference[1] + rb"\s{1,8}" + reference[2] + rb"\s{1,8}obj\b", content)
        at = place.start() if place else len(content)
    dictionary = content[at : at + _MAX_DICTIONARY_BYTES]
    return dictionary.partition(b"endobj")[0]


def _method(dictionary: bytes, default: str) -> str:
    if re.search(rb"/StmF\s{0,8}/Identity", dictionary):
        return "Identity"
    found = re.search(rb"/CFM\s{0,8}/(AESV3|AESV2|V2)\b", dictionary)
    return found[1].decode("ascii") if found else default


def _number(dictionary: bytes, name: bytes, default: int) -> int:
    # Remove the nested dictionary `/CF`, whose `/Length` is not the length of the key.
    outside = re.sub(rb"/CF\s{0,8}<<.{0,1000}?>>\s{0,8}>>", b"", dictionary, flags=re.DOTALL)
    found = re.search(rb"/" + name + _NUMBER, outside)
    return int(found[1]) if found else default


def _string(dictionary: bytes, name: bytes) -> bytes:
    found = re.search(rb"/" + name + rb"\s{0,8}(?=[<(])", dictionary)
    return _string_at(dictionary, found.end()) if found else b""


def _string_at(content: bytes, at: int) -> bytes:
    part = content[at : at + _MAX_STRING_BYTES]
    if part.startswith(b"<"):
        digits = re.sub(rb"[^0-9A-Fa-f]", b"", part.partition(b">")[0])
        return bytes.fromhex(digits[: len(digits) & ~1].decode("ascii"))
    end, depth = 1, 1
    while end < len(part) and depth:
        depth += {0x28: 1, 0x29: -1}.get(part[end], 0)
        end += 2 if part[end] == 0x5C else 1
    return _ESCAPE.sub(_unescaped, part[1 : end - 1])


def _unescaped(escape: re.Match[bytes]) -> bytes:
    letter = escape[1]
    return bytes((int(letter, 8) & 255,)) if letter[:1] in b"01234567" else _ESCAPED.get(letter, letter)


def _rc4(key: bytes) -> CipherContext:
    if len(key) not in _RC4_KEY_SIZES:
        raise UnreadableError("encrypted")
    return Cipher(ARC4(key), mode=None).decryptor()


def _md5(content: bytes) -> bytes:
    return hashlib.md5(content, usedforsecurity=False).digest()
