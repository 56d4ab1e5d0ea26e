"""Tests that the errors for Sentry contain no tokens, local variables or secrets."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import brotli
import pytest

from scanner.settings import SettingsError, load_settings
from workers import observing
from workers.observing.errors import MAX_CHARACTERS, scrubbed

PROGRAM = """
import logging, os, sys
import sentry_sdk
from scanner.settings import load_settings
from workers import observing
observing.start(load_settings())
log = logging.getLogger("workers.example")

def work():
    secret_of_a_variable = "hidden-" + "value"
    raise ValueError(f"cannot read {os.environ['TOKEN']}")

log.warning("a warning is no event")
try:
    work()
except ValueError:
    log.exception("the store %s failed", os.environ["TOKEN"], extra={"place": os.environ["TOKEN"]})
sentry_sdk.flush(30)
"""


@pytest.fixture
def received() -> Iterator[tuple[str, list[bytes]]]:
    """Run an HTTP server in place of Sentry. Yield its DSN, and a list of the request bodies."""
    bodies: list[bytes] = []

    class Sink(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            # Sentry's library compresses with Brotli if Brotli is installed.
            decompress = {"gzip": gzip.decompress, "br": brotli.decompress}[self.headers["Content-Encoding"]]
            bodies.append(decompress(body))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Sink) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://publickey@127.0.0.1:{server.server_address[1]}/7", bodies
        server.shutdown()
        thread.join()


def test_an_error_is_sent_without_tokens_and_local_variables(
    received: tuple[str, list[bytes]], fresh_token: Callable[[], str]
) -> None:
    dsn, bodies = received
    token = fresh_token()
    environment = {"R8SCAN_SENTRY_DSN": dsn, "TOKEN": token, "HOME": "/nonexistent"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    (event,) = [json.loads(line) for body in bodies for line in body.splitlines() if b'"exception"' in line]
    assert event["logger"] == "workers.example"
    assert event["exception"]["values"][0]["type"] == "ValueError"
    assert [one["function"] for one in event["exception"]["values"][0]["stacktrace"]["frames"]][-1] == "work"
    sent = b"".join(bodies)
    assert token.encode() not in sent
    assert token[8:30].encode() not in sent
    assert b"hidden-" not in sent
    assert b"a warning is no event" not in sent
    assert not {"request", "user", "breadcrumbs", "modules"} & set(event)


def test_deep_long_and_unknown_parts_of_an_event_are_cut_or_left_out(fresh_token: Callable[[], str]) -> None:
    deep: object = "end"
    for _ in range(100):
        deep = [deep]
    clean = scrubbed({"extra": {"deep": deep, "long": "x" * 100_000, fresh_token(): 1, "vars": {"a": 1}}, "user": 7})
    assert set(clean) == {"extra"}
    assert "vars" not in clean["extra"]
    assert len(json.dumps(clean)) < 10_000


@pytest.mark.parametrize("length", [MAX_CHARACTERS - 36, MAX_CHARACTERS - 39, MAX_CHARACTERS - 1])
def test_a_text_is_redacted_before_it_is_cut(fresh_token: Callable[[], str], length: int) -> None:
    token = fresh_token()
    sent = json.dumps(scrubbed({"message": " " * length + token, "extra": {" " * length + token: 1}}))
    assert token[8:20] not in sent


def test_without_its_library_an_export_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    observing.check(load_settings())
    monkeypatch.setattr("workers.observing.find_spec", lambda name: None)
    for settings, message in (
        (load_settings(sentry_dsn="http://key@127.0.0.1/1"), r"R8SCAN_SENTRY_DSN .*r8scan\[sentry\]"),
        (load_settings(traces_url="http://127.0.0.1"), r"R8SCAN_TRACES_URL .*r8scan\[traces\]"),
    ):
        with pytest.raises(SettingsError, match=message):
            observing.check(settings)
