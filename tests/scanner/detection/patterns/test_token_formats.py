"""Tests for token formats, which an operator sets in one setting."""

from __future__ import annotations

import itertools
import random
import zlib
from collections.abc import Iterator

import pytest

from scanner.compromise.reports import BadReport, subject_of
from scanner.detection import Detector, Document, Place, redact, sha256_digest
from scanner.detection.patterns.cores import core_groups
from scanner.detection.patterns.fastest_order import FASTEST_ORDER
from scanner.detection.patterns.token_formats import (
    DEFAULT_FORMATS,
    FormatError,
    TokenFormat,
    active_formats,
    described_formats,
    hint_of,
    is_hint,
    is_token,
    mask_plain_tokens,
    parse_formats,
    use_formats,
    written_formats,
)
from scanner.detection.prefilter import plain_only
from scanner.isolation import ReaderPool
from scanner.settings import SettingsError, load_settings
from scanner.tokens.imports import BadRow, token_of
from tests.scanner.detection.archive_builders import zipped
from tests.scanner.detection.silent_kinds import SILENT_KINDS
from tests.scanner.detection.token_encoders import ENCODINGS, random_token

OTHERS = parse_formats(
    "sk_live_[0-9a-zA-Z]{24}, hf_[A-Za-z]{34}, acme-[a-f0-9]{32}, ghp_[0-9A-Za-z]{36}:crc32, glpat-[0-9A-Za-z_-]{20}"
)


HYPHEN_AFTER_WRAP = ("terminal recording, wrapped", "terminal recording, wrapped with the letter repeated")
"""Encodings that hide a token if a terminal has wrapped the line directly before a hyphen in the token."""


@pytest.fixture
def others() -> Iterator[tuple[TokenFormat, ...]]:
    use_formats(OTHERS)
    yield OTHERS
    use_formats(DEFAULT_FORMATS)


def found_digests(content: bytes) -> set[str]:
    return {found.digest for found in Detector().scan(Document(content, Place("file"))).candidates}


def test_formats_are_read_from_one_line_and_written_back() -> None:
    formats = parse_formats("r8_[0-9A-Za-z]{37}\n sk_live_[0-9a-zA-Z]{24},ghp_[A-Za-z0-9]{36}:crc32 ,x1-[_a-f0-9-]{32}")
    assert formats[0] == DEFAULT_FORMATS[0]
    assert [str(form) for form in formats[1:]] == [
        "sk_live_[0-9A-Za-z]{24}",
        "ghp_[0-9A-Za-z]{36}:crc32",
        "x1-[0-9a-f_-]{32}",
    ]
    assert parse_formats(written_formats(formats)) == formats
    assert [form.length for form in formats] == [40, 32, 40, 35]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "1 to 8 formats"),
        ("r8_", "prefix[class]{number}"),
        ("r8_[0-9A-Za-z]{37}x", "prefix[class]{number}"),
        ("r8_[^a-z]{37}", "prefix[class]{number}"),
        ("r8_[a-z]+", "prefix[class]{number}"),
        ("r8_.{37}", "prefix[class]{number}"),
        ("(r8|r9)_[a-z]{37}", "prefix[class]{number}"),
        ("r8[a-z]{37}", "the prefix must have 3 to 20 characters"),
        ("p" * 21 + "[a-z]{37}", "the prefix must have 3 to 20 characters"),
        ("r8_[a-z]{200}", "20 to 128 characters"),
        ("r8_[0-9A-Za-z]{16}", "20 to 128 characters"),
        ("r8_[z-a]{37}", "is not a range"),
        ("r8_[a-Z]{37}", "ranges lie within"),
        ("r8_[aa]{37}", "twice"),
        ("r8_[0-9]{18}", "could be guessed"),
        ("r8_[0-9A-Za-z]{17}, r8_[0-9A-Za-z]{17}", "names one format twice"),
        ("r8_[0-9a-f]{37}:crc32", "a checksum needs"),
        ("longer_[0-9A-Za-z]{16}:crc32", "could be guessed"),
        (",".join(f"a{number}_[a-z]{{40}}" for number in range(9)), "1 to 8 formats"),
        ("r8_[a-z]{37}" + " " * 1000, "at most 1000 characters"),
    ],
)
def test_a_wrong_format_is_refused_in_one_line(text: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FormatError) as raised:
        parse_formats(text)
    assert reason in str(raised.value)
    assert "\n" not in str(raised.value)
    monkeypatch.setenv("R8SCAN_TOKEN_FORMATS", text)
    with pytest.raises(SettingsError, match=r"^R8SCAN_TOKEN_FORMATS "):
        load_settings(use_state=False)
    assert active_formats() == DEFAULT_FORMATS


def test_the_default_format_has_the_cores_that_were_tuned_for_it() -> None:
    groups = core_groups()
    assert [len(group) for group in groups] == [64, 64]
    assert tuple(core.text for group in groups for core in group) == FASTEST_ORDER


def test_no_core_of_an_automaton_begins_with_another(others: tuple[TokenFormat, ...]) -> None:
    for group in core_groups():
        texts = sorted(core.text for core in group)
        assert len(texts) <= 64
        assert min(map(len, texts)) >= 3
        assert not any(later.startswith(text) for text, later in itertools.pairwise(texts))


# The test has two parts, so that two processes can run them at the same time.
@pytest.mark.parametrize("part", range(2))
def test_each_format_is_found_in_each_encoding(part: int, others: tuple[TokenFormat, ...]) -> None:
    for name, form, seed in itertools.product(list(ENCODINGS)[part::2], others, range(2)):
        chance = random.Random(seed)
        token = random_token(chance, form)
        content = ENCODINGS[name](token, chance)
        if name in HYPHEN_AFTER_WRAP and b"\r-" in content:
            continue
        assert sha256_digest(token) in found_digests(content), (name, str(form), seed)


@pytest.mark.parametrize("form", OTHERS, ids=str)
def test_only_the_formats_of_the_process_are_found(form: TokenFormat, others: tuple[TokenFormat, ...]) -> None:
    token, old = random_token(random.Random(1), form), random_token(random.Random(2))
    content = b"a " + old + b" b " + token + b" c"
    assert found_digests(content) == {sha256_digest(token)}
    assert plain_only(content).findings[0].token == token
    use_formats(DEFAULT_FORMATS)
    assert found_digests(content) == {sha256_digest(old)}


def test_two_formats_with_one_prefix_are_both_found_at_one_place() -> None:
    short, long = parse_formats("key_[0-9a-f]{24},key_[0-9a-f]{40}")
    use_formats((short, long))
    try:
        token = random_token(random.Random(3), long)
        digests = {sha256_digest(token), sha256_digest(token[: short.length])}
        assert found_digests(token) == found_digests(token.hex().encode()) == digests
        assert redact(token.decode()) == hint_of(token)
    finally:
        use_formats(DEFAULT_FORMATS)


def test_a_string_with_a_wrong_checksum_is_no_token(others: tuple[TokenFormat, ...]) -> None:
    form = next(form for form in others if form.checksum)
    token = random_token(random.Random(5), form)
    wrong = token[:-1] + (b"a" if token[-1:] != b"a" else b"b")
    assert is_token(token.decode())
    assert not is_token(wrong.decode())
    for encode in (bytes, zipped, zlib.compress, lambda one: one.hex().encode()):
        assert found_digests(encode(token)) == {sha256_digest(token)}
        assert found_digests(encode(wrong)) == set()


def test_the_checksum_is_the_one_that_github_writes() -> None:
    # This expired token is published at https://gist.github.com/coolaj86/eb8cddfd3e4251258712dfed03e1f86d
    (form,) = parse_formats("ghp_[0-9A-Za-z]{36}:crc32")
    body = "zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ"
    assert form.has_checksum(f"ghp_{body}0mLq17")


def test_a_reader_in_another_process_searches_for_the_same_formats(others: tuple[TokenFormat, ...]) -> None:
    pool = ReaderPool()
    try:
        for form in others:
            token = random_token(random.Random(6), form)
            assert [found.token for found in pool.read(zipped(b"key: " + token), "a.zip").findings] == [token]
        assert not pool.read(zipped(random_token(random.Random(6))), "a.zip").findings
    finally:
        pool.close()


@pytest.mark.parametrize("form", OTHERS, ids=str)
def test_redaction_reports_and_hints_use_the_configured_formats(
    form: TokenFormat, others: tuple[TokenFormat, ...]
) -> None:
    token = random_token(random.Random(7), form).decode()
    hint = hint_of(token.encode())
    assert is_hint(hint)
    assert len(hint) <= 16
    assert redact(f"log {token}.") == f"log {hint}."
    assert mask_plain_tokens(f"log {token}.") == f"log {hint}."
    assert subject_of(token, sha256_digest).hint == hint
    assert token_of({"token": token}, sha256_digest).hint == hint
    assert token_of({"sha256": "0" * 64, "hint": hint}, sha256_digest).hint == hint
    old = random_token(random.Random(8)).decode()
    assert not is_hint("r8_Ab1…xyz9")
    with pytest.raises(BadReport, match="sk_live_ and 24 letters or digits"):
        subject_of(old, sha256_digest)
    with pytest.raises(BadRow, match="acme- and 32 of"):
        token_of({"token": old}, sha256_digest)


def test_code_search_asks_for_the_prefixes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings(use_state=False).search_queries[:2] == ("r8_", "REPLICATE_API_TOKEN")
    monkeypatch.setenv("R8SCAN_TOKEN_FORMATS", "sk_live_[0-9a-zA-Z]{24} sk_live_[0-9a-zA-Z]{40} hf_[A-Za-z]{34}")
    try:
        settings = load_settings(use_state=False)
        assert settings.search_queries == ("sk_live_", "hf_")
        assert active_formats() == settings.token_formats
        assert described_formats().endswith("or hf_ and 34 of [A-Za-z]")
        monkeypatch.setenv("R8SCAN_SEARCH_QUERIES", "own; words")
        assert load_settings(use_state=False).search_queries == ("own", "words")
    finally:
        use_formats(DEFAULT_FORMATS)


def test_the_known_gaps_are_the_same_for_each_format(others: tuple[TokenFormat, ...]) -> None:
    for form in others:
        for name, (encode, _) in SILENT_KINDS.items():
            token = random_token(random.Random(9), form)
            content = encode(token, random.Random(7))
            # Some of these encodings change only an underscore, so a token without one stays plain and is found.
            assert token in content or sha256_digest(token) not in found_digests(content), (name, str(form))
