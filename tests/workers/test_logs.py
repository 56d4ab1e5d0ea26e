"""Tests that no log line contains a token or a usable part of one."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from scanner.child_processes import start_child
from scanner.detection import redact
from workers import logs
from workers.celery_settings import own_broker_url
from workers.logs import MAX_REDACTED_CHARACTERS, MAX_VALUE_CHARACTERS, clean_text, clean_value, last_line

PART = 8
"""The number of successive characters of a token's secret part that count as a leak."""

PROGRAM = """
import logging, sys, threading
from scanner.settings import load_settings
from workers.logs import configure_logging

token = sys.stdin.read()
configure_logging(load_settings(log_format=sys.argv[1]))
log = logging.getLogger("test")

def fail():
    local = token
    raise ValueError(f"cannot use {token}")

log.info("%s%s", token[:20], token[20:])
log.info("value %r", token.encode())
extra = {"text": token, "bytes_": token.encode(), "utf16": token.encode("utf-16-le"), "exception": "x" * 1980 + token}
log.info("extras", extra={**extra, "nested": {token: [token, {"a": (token.encode("utf-16-be"),)}]}})
log.info("number", extra={"number": 10 ** 5000, "deep": [[[[[[token]]]]]], "object_": ValueError(token)})
log.info("x" * 1980 + token)
log.info("two\\x1b[2Jlines")
try:
    fail()
except ValueError as err:
    try:
        raise RuntimeError("x" * 15_980 + token) from err
    except RuntimeError:
        log.exception("it failed", stack_info=True)
thread = threading.Thread(target=fail)
thread.start()
thread.join()
log.info("last")
fail()
"""


def leaks(token: str, text: str) -> bool:
    middle = token[6:-4]
    return any(middle[at : at + PART] in text for at in range(len(middle) - PART + 1))


@pytest.fixture
def token() -> str:
    # No part of this token occurs twice in it, so the test can recognise each part in the output.
    return "r8_" + "AbCdEfGhIjKlMnOpQrStUvWxYz0123456789a"


@pytest.mark.parametrize(
    ("limit", "spell"),
    [
        (limit, spell)
        for limit in (MAX_VALUE_CHARACTERS, MAX_REDACTED_CHARACTERS)
        for spell in (str, lambda token: "\0".join(token), lambda token: "%72%38" + token[2:])
    ],
)
def test_a_token_at_every_offset_around_a_cut_leaves_no_part(
    token: str, limit: int, spell: Callable[[str], str]
) -> None:
    encoded = spell(token)
    for offset in range(limit - len(encoded) - 2, limit + 2):
        for tail in ("", " " * 3000):
            cleaned = clean_text("." * offset + encoded + tail, MAX_VALUE_CHARACTERS)
            assert not leaks(token, cleaned.replace("�", "")), offset
            assert len(cleaned) <= MAX_VALUE_CHARACTERS


def test_a_cut_at_the_redaction_limit_leaves_no_part_of_a_token(token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    longest = MAX_REDACTED_CHARACTERS + 100
    for offset in range(MAX_REDACTED_CHARACTERS - len(token), MAX_REDACTED_CHARACTERS + 1):
        assert not leaks(token, clean_text("." * offset + token, longest)), offset
    monkeypatch.setattr(logs, "MAX_TOKEN_CHARACTERS", 1)
    half = MAX_REDACTED_CHARACTERS - 20
    assert leaks(token, clean_text("." * half + token, longest)), (
        "without dropping the cut end, the token would be printed"
    )


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be", "utf-32-le"])
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_bytes_are_redacted_in_every_encoding(token: str, encoding: str, kind: Callable[[bytes], object]) -> None:
    for offset in (0, 1, 2, MAX_VALUE_CHARACTERS - 80, MAX_VALUE_CHARACTERS - 79, MAX_REDACTED_CHARACTERS - 30):
        shown = clean_value(kind(b"." * offset + token.encode(encoding)))
        assert not leaks(token, shown.replace("�", "")), offset


def test_only_a_limited_part_of_a_value_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []

    def counted(text: str) -> str:
        read.append(len(text))
        return redact(text)

    monkeypatch.setattr(logs, "redact", counted)
    clean_value("x" * 50_000_000)
    clean_value(b"x" * 50_000_000)
    clean_value(["x" * 1_000_000] * 1000)
    assert max(read) <= MAX_REDACTED_CHARACTERS
    assert len(read) <= 2 + logs.MAX_ITEMS


def test_a_value_that_cannot_be_shown_is_named_by_its_type() -> None:
    class Broken:
        def __str__(self) -> str:
            raise KeyError("no")

    recursive: list[object] = []
    recursive.append(recursive)
    assert clean_value(Broken()) == "Broken that cannot be shown (KeyError)"
    assert clean_value(recursive) == [[[["list of 1 items"]]]]
    assert clean_value(10**5000) == "an integer too long to print"
    assert clean_value({"a": 1, "b": [True, None, 1.5]}) == {"a": 1, "b": [True, None, 1.5]}


@pytest.fixture(params=["console", "json"])
def lines(request: pytest.FixtureRequest, token: str, tmp_path: Path) -> list[str]:
    """Return the output of a process that logs a token in every way and ends with an exception."""
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, request.param],
        input=token,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert result.returncode == 1
    assert result.stdout == ""
    return result.stderr.splitlines()


def test_no_way_of_logging_a_token_prints_it(lines: list[str], token: str) -> None:
    text = "\n".join(lines).replace("\\u2026", "…")
    assert "it failed" in text
    assert "cannot use r8_AbC…789a" in text
    assert "a thread ends" in text
    assert "the process ends" in text
    assert "\x1b" not in text
    assert not leaks(token, text.replace("\\u0000", "").replace("�", "").replace("\\ufffd", ""))
    if lines[0].startswith("{"):
        assert all(json.loads(line) for line in lines)


CELERY = (sys.executable, "-m", "celery", "-A", "workers")
PROCESSES = {
    "worker": (*CELERY, "worker", "-Q", "responding", "-P", "threads", "-c", "1"),
    "beat": (*CELERY, "beat", "--pidfile="),
    "serve": (sys.executable, "-m", "workers", "serve", "--port", "0"),
}


@pytest.mark.servers
@pytest.mark.parametrize("name", PROCESSES)
def test_every_line_of_a_process_is_json_and_an_absent_redis_is_one_line(
    name: str, tmp_path: Path, upgraded_sqlite: Path
) -> None:
    (tmp_path / "state").mkdir(mode=0o700)
    shutil.copy(upgraded_sqlite, tmp_path / "state" / "r8scan.db")
    environment = {
        **os.environ,
        "R8SCAN_LOG_FORMAT": "json",
        "R8SCAN_REDIS_URL": f"redis+socket://{tmp_path}/absent.sock",
        "R8SCAN_STATE_DIR": str(tmp_path / "state"),
    }
    wanted = "listening on" if name == "serve" else "Redis is unavailable"
    with socket.create_server(("127.0.0.1", 0)) as server:
        # The port in this setting is in use, so the command works only if its option `--port` overrides the setting.
        environment["R8SCAN_WEB_PORT"] = str(server.getsockname()[1])
        child = start_child(
            list(PROCESSES[name]),
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert child.stdout is not None
        with child.stdout as output:
            printed = []
            for line in output:
                printed.append(line.decode())
                if wanted in printed[-1]:
                    break
            child.terminate()
            printed += [line.decode() for line in output]
    child.wait(60)
    events = [json.loads(line)["event"] for line in printed]
    assert len([event for event in events if wanted in event]) == 1
    assert len(events) < 5


def test_the_line_with_which_a_process_ends_is_json_too(monkeypatch: pytest.MonkeyPatch, token: str) -> None:
    monkeypatch.setenv("R8SCAN_LOG_FORMAT", "json")
    monkeypatch.setenv("R8SCAN_MAIL_WINDOW", "soon")
    with pytest.raises(SystemExit) as ended:
        own_broker_url()
    assert "R8SCAN_MAIL_WINDOW" in json.loads(str(ended.value))["event"]
    assert not leaks(token, last_line(f"cannot use {token}"))
    monkeypatch.setenv("R8SCAN_LOG_FORMAT", "console")
    assert last_line("no") == "r8scan: no"
