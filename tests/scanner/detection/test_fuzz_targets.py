"""Tests that no parser of a file format crashes or exceeds its limits on random bytes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scanner.detection.containers.recognition import container_kind
from scanner.detection.containers.signatures import SIGNATURES, ContainerKind
from tests.scanner.detection.archive_builders import ar, cpio, cpio_in_octal, deb, rpm
from tests.scanner.detection.container_builders import CONTAINERS
from tests.scanner.detection.document_builders import pdf
from tests.scanner.detection.fuzz_targets import TARGETS, fuzz_container_kind, fuzz_wide, read_all

TEXT = b"a line of text\nkey = value; " * 20
SEEDS: dict[str, Callable[[bytes], bytes]] = {
    **{name: build for name, build in CONTAINERS.items() if not name.startswith("git ")},
    "ar, plain": lambda content: ar((b"a", content), (b"b", content)),
    "deb, plain": deb,
    "cpio": cpio,
    "cpio, octal": cpio_in_octal,
    "rpm, plain": rpm,
    "PDF, run length": lambda content: pdf(content, "ASCIIHexDecode").replace(b"ASCIIHex", b"RunLength"),
}


def _seeds_by_kind() -> dict[ContainerKind, list[bytes]]:
    seeds: dict[ContainerKind, list[bytes]] = {}
    for build in SEEDS.values():
        content = build(TEXT)
        kind = container_kind(content)
        if kind is not None and kind in TARGETS:
            seeds.setdefault(kind, []).append(content)
    return seeds


SEEDS_BY_KIND = _seeds_by_kind()


def _magics_by_kind() -> dict[ContainerKind, list[bytes]]:
    magics: dict[ContainerKind, list[bytes]] = {}
    for signatures in SIGNATURES.values():
        for signature in signatures:
            magics.setdefault(signature.kind, []).append(signature.magic)
    return magics


MAGICS = _magics_by_kind()


@pytest.mark.parametrize("kind", sorted(SEEDS_BY_KIND))
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_mutated_container_is_read_or_refused(kind: ContainerKind, data: st.DataObject) -> None:
    content = bytearray(data.draw(st.sampled_from(SEEDS_BY_KIND[kind])))
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] = data.draw(st.one_of(st.integers(0, 255), st.sampled_from((0, 127, 128, 255))))
    cut = data.draw(st.integers(0, len(content)))
    TARGETS[kind](bytes(content))
    TARGETS[kind](bytes(content[:cut]))
    TARGETS[kind](bytes(content[:cut]) + bytes(content))


@pytest.mark.parametrize("kind", sorted(set(MAGICS) & set(TARGETS)))
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_random_bytes_behind_a_magic_are_read_or_refused(kind: ContainerKind, data: st.DataObject) -> None:
    TARGETS[kind](data.draw(st.sampled_from(MAGICS[kind])) + data.draw(st.binary(max_size=600)))


@given(st.binary(max_size=600), st.sampled_from(sorted(magic for magics in MAGICS.values() for magic in magics)))
@settings(max_examples=200, deadline=None)
def test_the_kind_of_any_bytes_is_determined(content: bytes, magic: bytes) -> None:
    fuzz_container_kind(magic + content)
    fuzz_wide(content)


def test_every_kind_that_is_opened_here_has_a_target_and_a_seed() -> None:
    elsewhere = {"git_pack", "git_bundle"}
    assert set(MAGICS) - elsewhere <= set(TARGETS)
    # These kinds of files cannot be recognised by a magic number at their beginning.
    without_magic: set[ContainerKind] = {"tar", "embedded", "brotli", "firefox_cache", "magicless_zstd", "record_log"}
    assert set(MAGICS) - elsewhere - {"unsupported", "encrypted"} == set(SEEDS_BY_KIND) - without_magic | {"embedded"}
    for kind, seeds in SEEDS_BY_KIND.items():
        for seed in seeds:
            assert read_all(kind, seed).entries > 0
