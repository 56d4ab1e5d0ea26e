"""Tests for the pool of confined processes that read documents."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from scanner.detection import Detector, Document, Place
from scanner.detection.deep_reading import DeepReading, InProcessReader
from scanner.detection.git.pack_scanning import PackRequest
from scanner.detection.git.packs import PackLimits
from scanner.detection.limits import Limits
from scanner.isolation import ReaderPool, ReadersUnavailable, messages, reader, reader_pool
from tests.processes import children, core_dumps_allowed, that_may_dump_core
from tests.scanner.detection.archive_builders import zipped
from tests.scanner.detection.container_builders import CONTAINERS
from tests.scanner.detection.git.test_packs import pack_of, plain
from tests.scanner.detection.token_encoders import ENCODINGS, random_token

TOKEN = random_token(random.Random(23))
TEXT = b"first line\n  key = " + TOKEN + b" end\n"
HANGING = Limits(seconds=0.2)


@pytest.fixture(scope="module")
def pool() -> Iterator[ReaderPool]:
    pool = ReaderPool(2)
    yield pool
    pool.close()


@pytest.fixture
def own_pool(monkeypatch: pytest.MonkeyPatch) -> Iterator[ReaderPool]:
    """Yield a pool of confined processes with a short deadline, for one test."""
    monkeypatch.setattr(reader_pool, "GRACE_SECONDS", 0.3)
    pool = ReaderPool(2, HANGING)
    yield pool
    pool.close()


def server_of(pool: ReaderPool) -> psutil.Process:
    assert pool._server is not None
    return psutil.Process(pool._server._process.pid)


def readers(pool: ReaderPool) -> list[psutil.Process]:
    """Return the pool's confined processes."""
    return children(server_of(pool).pid)


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_reader_finds_the_same_in_every_container_as_the_reader_in_the_process(name: str, pool: ReaderPool) -> None:
    content = CONTAINERS[name](TEXT)
    confined, plain = pool.read(content, "a.bin"), InProcessReader(Limits()).read(content, "a.bin")
    assert confined.findings
    assert [found._replace(start=0, end=1) for found in plain.findings] == list(confined.findings)
    assert confined.unread == plain.unread


@pytest.mark.parametrize("name", ENCODINGS)
def test_a_reader_finds_the_same_in_every_encoding_as_the_reader_in_the_process(name: str, pool: ReaderPool) -> None:
    content = ENCODINGS[name](TOKEN, random.Random(5))
    confined, plain = pool.read(content, "a.bin"), InProcessReader(Limits()).read(content, "a.bin")
    assert [found._replace(start=0, end=1) for found in plain.findings] == list(confined.findings)


def test_readers_dump_no_core(own_pool: ReaderPool) -> None:
    with core_dumps_allowed():
        own_pool.read(zipped(TEXT), "a.zip")
    assert readers(own_pool)
    assert not that_may_dump_core(readers(own_pool))


def test_readers_are_used_again(own_pool: ReaderPool) -> None:
    own_pool.read(zipped(TEXT), "a.zip")
    before = readers(own_pool)
    own_pool.read(zipped(TEXT + b"."), "b.zip")
    assert readers(own_pool) == before


def test_a_reader_that_hangs_is_killed_and_the_next_content_is_read(own_pool: ReaderPool) -> None:
    own_pool.read(zipped(TEXT), "a.zip")
    (hanging,) = readers(own_pool)
    hanging.suspend()
    assert own_pool.read(zipped(b"never answered"), "b.zip").unread == {"reader_deadline": 1}
    assert own_pool.read(zipped(TEXT + b"."), "c.zip").findings[0].token == TOKEN
    psutil.wait_procs([hanging], timeout=30)
    assert not hanging.is_running()


def test_a_reader_that_gets_no_processor_time_is_not_late(
    own_pool: ReaderPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_pool.read(zipped(TEXT), "a.zip")
    (waiting,) = readers(own_pool)
    looked = threading.Semaphore(0)
    measure = reader_pool._processor_seconds

    def noted(process: int) -> float:
        looked.release()
        return measure(process)

    monkeypatch.setattr(reader_pool, "_processor_seconds", noted)
    monkeypatch.setattr(reader_pool, "MAX_STRETCH", 1000.0)
    monkeypatch.setattr(reader_pool, "LOOK_SECONDS", 0.01)
    waiting.suspend()
    answers: list[DeepReading] = []
    thread = threading.Thread(target=lambda: answers.append(own_pool.read(zipped(TEXT + b"."), "b.zip")))
    thread.start()
    # Wait until the pool has measured the reader's CPU time three times.
    for _ in range(3):
        assert looked.acquire(timeout=60)
    waiting.resume()
    thread.join(60)
    assert answers[0].findings[0].token == TOKEN


def test_one_reader_that_hangs_holds_up_no_other_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_pool, "GRACE_SECONDS", 300.0)
    pool = ReaderPool(2)
    pool.read(zipped(TEXT), "a.zip")
    (hanging,) = readers(pool)
    hanging.suspend()
    unanswered: list[DeepReading] = []
    thread = threading.Thread(target=lambda: unanswered.append(pool.read(zipped(b"never answered"), "b.zip")))
    thread.start()
    while pool._idle:
        assert thread.is_alive()
    assert pool.read(zipped(TEXT + b"."), "c.zip").findings[0].token == TOKEN
    pool.close()
    thread.join(60)
    assert unanswered[0].unread == {"reader_died": 1}


def test_a_reader_that_dies_is_recorded_and_the_next_content_is_read(own_pool: ReaderPool) -> None:
    own_pool.read(zipped(TEXT), "a.zip")
    (victim,) = readers(own_pool)
    victim.kill()
    assert own_pool.read(zipped(b"killed"), "b.zip").unread == {"reader_died": 1}
    assert own_pool.read(zipped(TEXT + b"."), "c.zip").findings[0].token == TOKEN


def test_a_content_that_made_a_reader_hang_is_not_read_again(own_pool: ReaderPool) -> None:
    detector = Detector(reader=own_pool)
    detector.scan_bytes(zipped(TEXT), "a.zip")
    (hanging,) = readers(own_pool)
    hanging.suspend()
    content = zipped(b"never answered")
    detector.scan_bytes(content, "b.zip")
    again = detector.scan_bytes(content, "copy.zip")
    # This is the result of the first scan: a second scan, by a new reader, would have had no error.
    assert again is not None
    assert again.unread == {"reader_deadline": 1}


def test_a_caller_that_does_not_wait_learns_that_all_readers_are_busy() -> None:
    pool = ReaderPool(1)
    with pool._free:
        assert pool.read(b"x", "a", patience=0).unread == {"reader_busy": 1}
    pool.close()


def test_plain_tokens_are_found_if_a_reader_fails(own_pool: ReaderPool) -> None:
    own_pool.read(zipped(TEXT), "a.zip")
    (victim,) = readers(own_pool)
    victim.kill()
    content = zipped(b"x", "y") + b"\n" + TEXT + zipped(b"z")[-22:]
    result = Detector(reader=own_pool).scan(Document(content, Place("file", path="a.bin")))
    assert len(result.candidates) == 1
    assert result.unread == {"reader_died": 1}
    assert len(result.content_digest) == 64


def test_a_fork_server_that_was_killed_is_replaced(own_pool: ReaderPool) -> None:
    own_pool.read(zipped(TEXT), "a.zip")
    server = server_of(own_pool)
    server.kill()
    psutil.wait_procs([server], timeout=30)
    own_pool.read(zipped(b"the reader died with its server"), "b.zip")
    assert own_pool.read(zipped(TEXT + b"."), "c.zip").findings[0].token == TOKEN


def test_if_no_process_can_be_started_the_error_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_pool, "_PROGRAM", "raise SystemExit(1)")
    pool = ReaderPool(1)
    with pytest.raises(ReadersUnavailable):
        pool.read(b"x", "a")
    pool.close()


def test_a_forked_process_gets_its_own_readers(own_pool: ReaderPool) -> None:
    own_pool.read(zipped(TEXT), "a.zip")
    process = os.fork()
    if not process:
        status = 1
        try:
            status = 0 if own_pool.read(zipped(TEXT + b"."), "b.zip").findings else 2
            own_pool.close()
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0
    assert own_pool.read(zipped(TEXT + b".."), "c.zip").findings


OWNER = """
import sys
from pathlib import Path
from scanner.isolation import ReaderPool
pool = ReaderPool(1)
pool.read(Path(sys.argv[1]).read_bytes(), "a.zip")
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("is_hanging", [False, True])
def test_readers_end_when_the_process_that_uses_them_is_killed(tmp_path: Path, *, is_hanging: bool) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(zipped(TEXT))
    environment = {**os.environ, "R8SCAN_GITHUB_TOKEN": "a-secret"}
    command = [sys.executable, "-c", OWNER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"ready\n"
        (server,) = children(owner.pid)
        left = [server, *server.children()]
        assert len(left) == 2
        assert all("a-secret" not in str(process.environ()) for process in [server])
        if is_hanging:
            left[1].suspend()
        owner.send_signal(signal.SIGKILL)
        owner.wait()
        assert psutil.wait_procs(left, timeout=60)[1] == []


def test_a_lack_of_memory_is_recorded_with_its_own_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def out_of_memory(*_: object) -> list[object]:
        raise MemoryError

    monkeypatch.setattr("scanner.detection.deep_reading.all_findings", out_of_memory)
    assert reader._read(messages.Request(b"x", "a", 1.0, 1), Limits()).unread == {"memory": 1}


def test_a_reader_scans_a_pack_with_the_same_result_as_the_process_itself(pool: ReaderPool) -> None:
    pack = pack_of([plain("blob", TEXT), plain("blob", zipped(TEXT)), plain("tree", b"100644 " + TOKEN + bytes(21))])
    request = PackRequest(PackLimits(), "sha1", (), 8.0)
    confined, here = pool.read_pack(pack, request), InProcessReader(Limits()).read_pack(pack, request)
    found = [[one._replace(start=0, end=1) for one in hit.found] for hit in here.scan.hits]
    assert [hit.found for hit in confined.scan.hits] == found
    assert len(found) == 3
    assert confined.scan.unread == here.scan.unread


def test_a_reader_that_hangs_over_a_pack_is_killed(own_pool: ReaderPool) -> None:
    request = PackRequest(PackLimits(), "sha1", (), 8.0)
    own_pool.read_pack(pack_of([]), request)
    (hanging,) = readers(own_pool)
    hanging.suspend()
    assert own_pool.read_pack(pack_of([plain("blob", TEXT)]), request).failure == "reader_deadline"
    assert own_pool.read_pack(pack_of([plain("blob", TEXT)]), request).scan.hits
    psutil.wait_procs([hanging], timeout=30)
    assert not hanging.is_running()
