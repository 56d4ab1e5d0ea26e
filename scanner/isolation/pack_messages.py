"""The messages between the service and a confined process that scans a git pack."""

from __future__ import annotations

import json
import re
import socket
import struct
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, NamedTuple, cast, get_args

from scanner.detection.findings import Finding
from scanner.detection.git.pack_codec import ObjectType
from scanner.detection.git.pack_locations import MAX_PATH, Location
from scanner.detection.git.pack_scanning import (
    MAX_BEYOND,
    MAX_NOT_READ,
    DeferredObject,
    PackAnswer,
    PackHit,
    PackRequest,
    PackScan,
    TokensBeyond,
    UnreadPackObject,
)
from scanner.detection.git.packs import PackLimits
from scanner.isolation.messages import (
    MAX_ANSWER_BYTES,
    MAX_CONTENT_BYTES,
    BadAnswer,
    finding_from_json,
    finding_to_json,
    reasons_from_json,
    receive,
)

PACK = b"p"
"""The first byte of a request to scan a pack."""
MAX_DEFERRED_OBJECTS = 1_000
MAX_DEFERRED_TOTAL = 256 << 20
MAX_BEYOND_BYTES = 64 * MAX_BEYOND
MAX_HITS = 300_000

_SIZES = struct.Struct("<QI")
_FRAME = struct.Struct("<cQI")
_DEFERRED, _BEYOND, _SCAN = b"o", b"t", b"s"
_OBJECT_ID = re.compile(r"(?:[0-9a-f]{40}(?:[0-9a-f]{24})?)?")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_TYPES = frozenset(get_args(ObjectType))


class PackToScan(NamedTuple):
    """A git pack, and the request that says how to scan it."""

    content: bytes
    request: PackRequest


def send_pack(connection: socket.socket, content: bytes, request: PackRequest) -> None:
    """Send a git pack to a confined process to be scanned.

    Raises:
        OSError: The process has ended.
    """
    options = json.dumps({**asdict(request), "limits": asdict(request.limits)}).encode("ascii")
    connection.sendall(PACK + _SIZES.pack(len(content), len(options)) + options)
    connection.sendall(content)


def receive_pack(connection: socket.socket) -> PackToScan | None:
    """Receive a request to scan a git pack. The caller has already received the first byte of the request.

    Return None if the service process has closed the socket.
    """
    head = receive(connection, _SIZES.size)
    if len(head) < _SIZES.size:
        return None
    size, options_size = _SIZES.unpack(head)
    options = receive(connection, options_size)
    content = receive(connection, size)
    if len(content) < size or len(options) < options_size:
        return None
    value = json.loads(options)
    value.update(limits=PackLimits(**value["limits"]), wants=tuple(value["wants"]))
    return PackToScan(content, PackRequest(**value))


def send_deferred(connection: socket.socket, item: DeferredObject) -> None:
    """Send an object of a git pack to the service process, so that another process reads it."""
    head = json.dumps([item.oid, item.type]).encode("ascii")
    connection.sendall(_FRAME.pack(_DEFERRED, len(item.content), len(head)) + head)
    connection.sendall(item.content)


def send_scan(connection: socket.socket, scan: PackScan[Finding], seconds: float, *, retires: bool) -> None:
    """Send the result of scanning a git pack to the service process.

    Args:
        seconds: The processor seconds that the scan took.
        retires: Whether the confined process will end after this answer.
    """
    value = {
        "hits": [[hit.oid, hit.type, [finding_to_json(found) for found in hit.found]] for hit in scan.hits],
        "locations": [
            [oid, where.path, where.commit, where.committed_at and int(where.committed_at.timestamp())]
            for oid, where in scan.locations.items()
        ],
        "unread": dict(scan.unread),
        "not_read": [asdict(item) for item in scan.not_read],
        "reached": sorted(scan.reached),
        "numbers": [scan.objects, scan.bytes],
        "flags": [scan.is_all_located, scan.is_over_limit, scan.is_cut_off, scan.is_damaged],
        "seconds": seconds,
        "retires": retires,
    }
    for item in scan.beyond:
        head = json.dumps([item.oid, item.type]).encode("ascii")
        connection.sendall(_FRAME.pack(_BEYOND, len(item.tokens), len(head)) + head + item.tokens)
    raw = json.dumps(value).encode("ascii")
    connection.sendall(_FRAME.pack(_SCAN, 0, len(raw)) + raw)


def receive_pack_answer(connection: socket.socket, wait: Callable[[], None]) -> tuple[PackAnswer, bool]:
    """Receive the result of scanning a git pack.

    Args:
        wait: Returns when something can be received. It raises an exception if the process takes too long.

    Returns:
        The result, and whether the confined process ends after this answer.

    Raises:
        BadAnswer: The answer is cut off, too large, or malformed.
        OSError: The connection broke, or its time-out passed.
    """
    deferred: list[DeferredObject] = []
    beyond: list[TokensBeyond] = []
    total = beyond_total = 0
    while True:
        wait()
        head = receive(connection, _FRAME.size)
        if len(head) < _FRAME.size:
            raise BadAnswer("the reader ended")
        kind, size, head_size = _FRAME.unpack(head)
        total += size
        beyond_total += size if kind == _BEYOND else 0
        if (
            head_size > MAX_ANSWER_BYTES
            or total > MAX_DEFERRED_TOTAL
            or size > MAX_CONTENT_BYTES
            or beyond_total > MAX_BEYOND_BYTES
        ):
            raise BadAnswer("the reader's answer is too large")
        raw, content = receive(connection, head_size), receive(connection, size)
        if len(content) < size:
            raise BadAnswer("the reader ended")
        try:
            value = json.loads(raw)
            if kind == _SCAN:
                answer = PackAnswer(
                    scan=_scan(value, beyond), deferred=tuple(deferred), seconds=float(value["seconds"])
                )
                return answer, bool(value["retires"])
            oid, object_type = value
            if kind == _BEYOND:
                beyond.append(TokensBeyond(oid=_oid(oid), type=_type(object_type), tokens=content))
            else:
                deferred.append(DeferredObject(oid=_oid(oid), type=_type(object_type), content=content))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError, OSError) as err:
            raise BadAnswer("the reader's answer is not of the agreed form") from err
        if kind not in (_DEFERRED, _BEYOND) or len(deferred) > MAX_DEFERRED_OBJECTS or len(beyond) > MAX_BEYOND:
            raise BadAnswer("the reader's answer is not of the agreed form")


def _scan(value: Any, beyond: list[TokensBeyond]) -> PackScan[Finding]:
    if len(value["hits"]) > MAX_HITS or len(value["locations"]) > MAX_HITS:
        raise ValueError("too many objects")
    objects, size = value["numbers"]
    is_all_located, is_over_limit, is_cut_off, is_damaged = value["flags"]
    return PackScan(
        hits=[_hit(hit) for hit in value["hits"]],
        locations=dict(_location(entry) for entry in value["locations"]),
        unread=reasons_from_json(value["unread"]),
        not_read=[_unread(item) for item in value["not_read"][:MAX_NOT_READ]],
        beyond=beyond,
        reached={_oid(oid) for oid in value["reached"]},
        objects=int(objects),
        bytes=int(size),
        is_all_located=bool(is_all_located),
        is_over_limit=bool(is_over_limit),
        is_cut_off=bool(is_cut_off),
        is_damaged=bool(is_damaged),
    )


def _hit(value: Any) -> PackHit[Finding]:
    oid, object_type, found = value
    return PackHit(oid=_oid(oid), type=_type(object_type), found=[finding_from_json(one) for one in found])


def _location(value: Any) -> tuple[str, Location]:
    """Return an object's id and location from a confined process's JSON list."""
    oid, path, commit, seconds = value
    at = None if seconds is None else datetime.fromtimestamp(int(seconds), UTC)
    # A path whose beginning was cut off begins with a mark, so allow two characters more than MAX_PATH.
    return _oid(oid), Location(path=str(path)[-(MAX_PATH + 2) :], commit=_oid(commit), committed_at=at)


def _unread(value: Any) -> UnreadPackObject:
    digest = value["digest"]
    if not _DIGEST.fullmatch(digest):
        raise ValueError("no digest")
    return UnreadPackObject(
        oid=_oid(value["oid"]),
        type=_type(value["type"]),
        reasons=tuple(str(reason)[:200] for reason in value["reasons"][:100]),
        digest=digest,
        size=int(value["size"]),
    )


def _oid(value: str) -> str:
    if not _OBJECT_ID.fullmatch(value):
        raise ValueError("no object id")
    return value


def _type(value: str) -> ObjectType:
    if value not in _TYPES:
        raise ValueError("no type of objects")
    return cast(ObjectType, value)
