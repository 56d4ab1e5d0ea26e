"""Tests that each answer of a confined process is checked, because an attacker may control the process."""

from __future__ import annotations

import json
import random
import socket
import struct
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from scanner.detection.deep_reading import DeepReading
from scanner.detection.findings import Finding
from scanner.isolation import messages
from tests.scanner.detection.token_encoders import random_token

TOKEN = random_token(random.Random(3))
GOOD: dict[str, Any] = {"findings": [], "unread": {}, "expanded": 0, "seconds": 0.5, "retires": False}


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_a_request_is_received_as_it_was_sent(ends: tuple[socket.socket, socket.socket]) -> None:
    content = bytes(range(256)) * 20_000
    sender = threading.Thread(target=messages.send_request, args=(ends[0], content, "d/\udcffa.bin", 1.5, 99))
    sender.start()
    assert messages.receive(ends[1], 1) == messages.DOCUMENT
    received = messages.receive_request(ends[1])
    sender.join()
    assert received is not None
    assert (received.content, received.seconds, received.expanded_bytes) == (content, 1.5, 99)


def test_a_closed_connection_ends_the_requests(ends: tuple[socket.socket, socket.socket]) -> None:
    ends[0].close()
    assert messages.receive_request(ends[1]) is None


def test_an_answer_is_received_as_it_was_sent(ends: tuple[socket.socket, socket.socket]) -> None:
    finding = Finding(TOKEN, 0, 1, ("base64",), ("a.zip", "b\udcff.txt"), 3, 4)
    messages.send_answer(ends[1], DeepReading((finding,), {"damaged": 2}, 77, 0.25), retires=True)
    reading, retires = messages.receive_answer(ends[0])
    assert reading == DeepReading((finding,), {"damaged": 2}, 77, 0.25)
    assert retires


@pytest.mark.parametrize(
    "answer",
    [
        b"no JSON",
        b"[" * 100_000,
        b"[]",
        b"{}",
        b'"\xff"',
        json.dumps({**GOOD, "findings": [["r8_short", 1, 1, ["plain"], []]]}).encode(),
        json.dumps({**GOOD, "findings": [[TOKEN.decode() + "x", 1, 1, ["plain"], []]]}).encode(),
        json.dumps({**GOOD, "findings": [[TOKEN.decode(), 1, 1, ["plain"] * 1000, []]]}).encode(),
        json.dumps({**GOOD, "findings": [[TOKEN.decode(), 1, 1, [7], []]]}).encode(),
        json.dumps({**GOOD, "findings": [[TOKEN.decode(), "one", 1, [], []]]}).encode(),
        json.dumps({**GOOD, "findings": [[TOKEN.decode()]]}).encode(),
        json.dumps({**GOOD, "unread": {"x": "many"}}).encode(),
        json.dumps({**GOOD, "unread": []}).encode(),
    ],
    ids=str,
)
def test_a_malformed_answer_is_refused(ends: tuple[socket.socket, socket.socket], answer: bytes) -> None:
    sender = threading.Thread(target=ends[1].sendall, args=(struct.pack("<I", len(answer)) + answer,))
    sender.start()
    with pytest.raises(messages.BadAnswer):
        messages.receive_answer(ends[0])
    sender.join()


def test_an_answer_that_declares_too_much_is_refused_before_it_is_read(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    ends[1].sendall(struct.pack("<I", messages.MAX_ANSWER_BYTES + 1))
    with pytest.raises(messages.BadAnswer):
        messages.receive_answer(ends[0])


def test_an_answer_that_ends_early_is_refused(ends: tuple[socket.socket, socket.socket]) -> None:
    ends[1].sendall(struct.pack("<I", 1000) + b"{")
    ends[1].close()
    with pytest.raises(messages.BadAnswer):
        messages.receive_answer(ends[0])


def test_a_content_that_is_too_large_is_not_sent(ends: tuple[socket.socket, socket.socket]) -> None:
    with pytest.raises(ValueError, match="too large"):
        messages.send_request(ends[0], _Large(), "a", 1.0, 1)


class _Large(bytes):
    def __len__(self) -> int:
        return messages.MAX_CONTENT_BYTES + 1
