"""Tests for the detector, which reports the position and the digest of each token, but never the token."""

from __future__ import annotations

import base64
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from scanner.detection import Detector, Document, Place, hmac_sha256_digester, sha256_digest
from scanner.detection.containers.recognition import container_kind
from scanner.detection.patterns.matcher import WINDOW
from tests.scanner.detection.archive_builders import zipped
from tests.scanner.detection.token_encoders import ENCODINGS, random_token

FILE = Place("file", repository="a/b", path="folder/a.zip")


def token_of(seed: int) -> bytes:
    return random_token(random.Random(seed))


def test_every_occurrence_has_its_line_and_column_in_bytes() -> None:
    first, second = token_of(1), token_of(2)
    content = "é ".encode() + first + b"\n\n\t" + second + first + b"\r\n" + second
    candidates = Detector().scan(Document(content, Place("file"))).candidates
    assert [(found.digest, found.line, found.column) for found in candidates] == [
        (sha256_digest(first), 1, 4),
        (sha256_digest(second), 3, 2),
        (sha256_digest(first), 3, 42),
        (sha256_digest(second), 4, 1),
    ]


def test_encoded_tokens_have_the_place_of_their_encoding() -> None:
    token = token_of(3)
    content = b"a\nb = " + base64.b64encode(b"user:" + token) + b"\n" + b"c: " + token.hex().encode()
    candidates = Detector().scan(Document(content, Place("file"))).candidates
    assert [(found.line, found.encoding) for found in candidates] == [(2, "base64"), (3, "hex")]
    assert candidates[1].column == 4
    assert 5 <= candidates[0].column <= 14


def test_a_position_after_a_long_wrapped_run_is_exact() -> None:
    token, chance = token_of(4), random.Random(4)
    inner = base64.b64encode(chance.randbytes(3000) + base64.b64encode(base64.b64encode(base64.b64encode(token))))
    lines = [inner[at : at + 76] for at in range(0, len(inner), 76)]
    content = b'x = """\n' + b"\n".join(lines) + b'\n"""\n'
    (candidate,) = Detector().scan(Document(content, Place("file"))).candidates
    assert candidate.encoding == "base64>base64>base64>base64"
    letter = 4000 + 1
    assert abs((candidate.line - 2) * 76 + candidate.column - letter) <= 4


@pytest.mark.parametrize("encoding", [name for name in ENCODINGS if "with mark" not in name])
@pytest.mark.parametrize("shift", [-60, -20, -2, -1, 0, 1])
def test_a_token_across_two_windows_is_found(encoding: str, shift: int) -> None:
    chance = random.Random(shift)
    token = random_token(chance)
    encoded = ENCODINGS[encoding](token, chance)
    content = b"." * (WINDOW + shift) + encoded + b"." * 10
    assert [found.digest for found in Detector().scan(Document(content, Place("file"))).candidates] == [
        sha256_digest(token)
    ]


def test_one_token_in_one_place_is_one_candidate_in_its_simplest_encoding() -> None:
    token = token_of(5)
    long_run = base64.b64encode(b"x" * 3000 + token + b"y" * 3000)
    (candidate,) = Detector().scan(Document(long_run, Place("file"))).candidates
    assert candidate.encoding == "base64"


def test_no_string_of_a_candidate_contains_a_token() -> None:
    token = token_of(6)
    name = token.decode()
    place = Place("file", url=f"https://x/{name}", repository=f"a/{name}", path=f"d/{name}.zip", ref=name)
    content = zipped(b"key=" + token, name=f"{name}.txt")
    result = Detector().scan(Document(content, place))
    assert len(result.candidates) == 2
    assert name not in repr(result)
    assert {found.container for found in result.candidates} == {
        f"{result.candidates[0].hint}.zip!/{result.candidates[0].hint}.txt"
    }


def test_the_digester_gets_exactly_the_forty_bytes_of_the_token() -> None:
    token = token_of(7)
    digester = hmac_sha256_digester(b"pepper")
    (candidate,) = Detector(digester).scan(Document(b"\n" + token + b"zz", FILE)).candidates
    assert candidate.digest == digester(token)
    assert candidate.place == FILE


def test_scan_bytes_returns_none_for_clean_contents_and_the_same_as_scan_for_others() -> None:
    detector, token = Detector(), token_of(8)
    assert detector.scan_bytes(b"nothing here, char8_t neither") is None
    content = zipped(b"a\n" + token)
    quick = detector.scan_bytes(content, "a.zip")
    assert quick is not None
    assert [(found.digest, found.line, found.container) for found in quick.candidates] == [
        (found.digest, found.line, found.container) for found in detector.scan(Document(content, FILE)).candidates
    ]


def test_scan_bytes_reports_unread_content() -> None:
    result = Detector().scan_bytes(b"PK\x03\x04 and nothing more")
    assert result is not None
    assert result.unread == {"damaged": 1}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_encoded_token_makes_its_content_suspect_or_is_a_container(encoding: str) -> None:
    chance = random.Random(9)
    token = random_token(chance)
    before, content = b"z " * 5000, ENCODINGS[encoding](token, chance)
    suspects = Detector.suspects(before + content + b" z" * 5000)
    assert any(len(before) <= offset < len(before) + len(content) for offset in suspects) or container_kind(content)


def test_threads_share_one_detector() -> None:
    detector = Detector()
    tokens = [token_of(seed) for seed in range(200)]
    documents = [Document(b"x" * 5000 + token, Place("file")) for token in tokens]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(detector.scan, documents))
    assert [result.candidates[0].digest for result in results] == [sha256_digest(token) for token in tokens]


def test_rarely_needed_libraries_are_loaded_only_when_needed() -> None:
    code = "import sys, scanner.detection; print([name for name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    for library in ("py7zr", "zstandard", "zipfile", "tarfile", "sqlite3", "lzma", "bz2", "ahocorasick_rs"):
        assert f"'{library}'" not in loaded


def test_bytes_read_counts_expanded_bytes() -> None:
    content = zipped(b"word " * 2000)
    assert Detector().scan(Document(content, FILE)).bytes_read >= len(content) + 10_000


def test_a_pointer_to_a_file_that_is_kept_elsewhere_is_counted() -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 5\n"
    place = Place("file", path="model.bin")
    assert Detector().scan(Document(pointer, place)).unread == {"lfs_pointer": 1}
    assert Detector().scan(Document(pointer + b" " * 1024, place)).unread == {}, (
        "this content is too long to be a pointer"
    )
