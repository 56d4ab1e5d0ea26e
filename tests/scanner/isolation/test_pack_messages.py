"""Tests that the answers of confined processes about git packs are complete, and that wrong ones are rejected."""

from __future__ import annotations

import json
import random
import socket
import struct
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from scanner.detection.findings import Finding
from scanner.detection.git.pack_locations import Location
from scanner.detection.git.pack_scanning import (
    DeferredObject,
    PackHit,
    PackRequest,
    PackScan,
    TokensBeyond,
    UnreadPackObject,
)
from scanner.detection.git.packs import PackLimits
from scanner.isolation import messages, pack_messages
from tests.scanner.detection.token_encoders import random_token

TOKEN = random_token(random.Random(3))
OID = "ab" * 20
GOOD: dict[str, Any] = {
    "hits": [],
    "locations": [],
    "unread": {},
    "not_read": [],
    "reached": [],
    "numbers": [1, 2],
    "flags": [True, False, False, False],
    "seconds": 0.5,
    "retires": False,
}
FRAME = struct.Struct("<cQI")


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def frame(kind: bytes, value: Any, content: bytes = b"") -> bytes:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return FRAME.pack(kind, len(content), len(raw)) + raw + content


def test_a_pack_is_received_as_it_was_sent(ends: tuple[socket.socket, socket.socket]) -> None:
    request = PackRequest(PackLimits(objects=3), "sha256", (OID,), 1.5, opens=False)
    sender = threading.Thread(target=pack_messages.send_pack, args=(ends[0], b"PACK" * 100_000, request))
    sender.start()
    assert messages.receive(ends[1], 1) == pack_messages.PACK
    received = pack_messages.receive_pack(ends[1])
    sender.join()
    assert received is not None
    assert (received.content, received.request) == (b"PACK" * 100_000, request)


def test_an_answer_is_received_as_it_was_sent(ends: tuple[socket.socket, socket.socket]) -> None:
    finding = Finding(TOKEN, 0, 1, ("base64",), ("a.zip",), 3, 4)
    scan = PackScan(
        hits=[PackHit(OID, "blob", [finding])],
        locations={OID: Location("a\udcff/b", OID, datetime.fromtimestamp(1000, UTC))},
        unread=Counter({"damaged": 2}),
        not_read=[UnreadPackObject(OID, "tree", ("damaged",), "0" * 64, 7)],
        beyond=[TokensBeyond(OID, "blob", TOKEN + b"\n" + TOKEN)],
        reached={OID},
        objects=5,
        bytes=6,
        is_all_located=False,
        is_over_limit=True,
        is_cut_off=True,
        is_damaged=True,
    )
    deferred = DeferredObject(OID, "blob", bytes(1000))
    pack_messages.send_deferred(ends[1], deferred)
    pack_messages.send_scan(ends[1], scan, 0.25, retires=True)
    answer, retires = pack_messages.receive_pack_answer(ends[0], lambda: None)
    assert (answer.scan, answer.deferred, answer.seconds, answer.failure) == (scan, (deferred,), 0.25, "")
    assert retires


@pytest.mark.parametrize(
    "answer",
    [
        frame(b"s", b"no JSON"),
        frame(b"s", []),
        frame(b"x", [OID, "blob"]),
        frame(b"o", [OID, "program"], b"x"),
        frame(b"o", ["../x", "blob"], b"x"),
        frame(b"s", {**GOOD, "hits": [[OID, "blob", [["r8_short", 1, 1, ["plain"], []]]]]}),
        frame(b"s", {**GOOD, "hits": [[OID, "x", []]]}),
        frame(b"s", {**GOOD, "hits": [[7, "blob", []]]}),
        frame(b"s", {**GOOD, "locations": [[OID, "a", OID, 1 << 80]]}),
        frame(b"s", {**GOOD, "locations": [[OID, "a", "x", 1]]}),
        frame(b"s", {**GOOD, "not_read": [{"oid": OID}]}),
        frame(b"s", {**GOOD, "not_read": [{"oid": OID, "type": "blob", "reasons": [], "digest": "x", "size": 1}]}),
        frame(b"t", [OID, "program"], b"x"),
        FRAME.pack(b"t", pack_messages.MAX_BEYOND_BYTES + 1, 2),
        frame(b"s", {**GOOD, "flags": [True]}),
        frame(b"s", {**GOOD, "unread": {"x": "many"}}),
        FRAME.pack(b"s", 0, messages.MAX_ANSWER_BYTES + 1),
        FRAME.pack(b"o", messages.MAX_CONTENT_BYTES + 1, 2),
        b"s",
    ],
    ids=lambda answer: repr(answer[13:60]),
)
def test_a_malformed_answer_is_refused(ends: tuple[socket.socket, socket.socket], answer: bytes) -> None:
    ends[1].sendall(answer)
    ends[1].close()
    with pytest.raises(messages.BadAnswer):
        pack_messages.receive_pack_answer(ends[0], lambda: None)


def test_every_valid_answer_is_accepted(ends: tuple[socket.socket, socket.socket]) -> None:
    ends[1].sendall(frame(b"s", GOOD))
    answer, retires = pack_messages.receive_pack_answer(ends[0], lambda: None)
    assert (answer.scan.objects, answer.scan.bytes, retires) == (1, 2, False)
