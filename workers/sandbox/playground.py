"""Runs `r8scan sandbox`: a simulated GitHub, the service and its console, until Ctrl-C."""

from __future__ import annotations

import contextlib
import os
import secrets
import selectors
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from sqlalchemy import select

from scanner.records.models import Incident, Sighting
from scanner.records.source_models import SourceState
from scanner.records.states import Decision
from workers.sandbox import leak_page, world
from workers.sandbox.http_server import served
from workers.sandbox.leaks import KINDS, Leak, Leaks, UnknownKind
from workers.sandbox.world import World, until
from workers.web.console import users

READY_SECONDS = 60.0
LOOK_SECONDS = 0.1
MAX_LINES = 200
MAX_TYPED = 4096
MAX_WAITING = 1000
"""The maximum number of leaks whose outcome is awaited. Older leaks are forgotten."""


class NotReady(Exception):
    """Raised if the service or the console did not start."""


class _Journal:
    """Prints lines with the seconds since the start, and keeps the newest lines."""

    def __init__(self, console: Console) -> None:
        self._console, self._start = console, time.monotonic()
        self.lines: deque[str] = deque(maxlen=MAX_LINES)

    def show(self, text: str, style: str = "default") -> None:
        line = f"{time.monotonic() - self._start:7.2f} s  {text}"
        self.lines.append(line)
        self._console.print(f"[{style}]{escape(line)}[/]", soft_wrap=True)


class _Watched:
    """Prints what r8scan did about each leak, such as "found and disabled after 2.1 s"."""

    def __init__(self, surroundings: World, journal: _Journal) -> None:
        self._world, self._journal = surroundings, journal
        self._waiting: deque[tuple[Leak, float]] = deque(maxlen=MAX_WAITING)
        self._mails = 0

    def add(self, leak: Leak) -> None:
        self._waiting.append((leak, time.time()))

    def look(self) -> None:
        """Print what r8scan did and which mails arrived since the last call."""
        for _ in range(len(self._waiting)):
            leak, since = self._waiting.popleft()
            outcome = self._outcome(leak, since)
            if outcome is None:
                self._waiting.append((leak, since))
            else:
                self._journal.show(f"{leak.shown} {outcome}", "green")
        messages = self._world.mailbox.messages
        for message in messages[self._mails :]:
            self._journal.show(f"mail to {message['To']}: {message['Subject']}", "cyan")
        self._mails = len(messages)

    def _outcome(self, leak: Leak, since: float) -> str | None:
        with self._world.database.read() as session:
            found = session.execute(select(Incident).where(Incident.digest == leak.digest)).scalar_one_or_none()
            if found is None:
                seen = select(Sighting.id).where(Sighting.digest == leak.digest)
                is_seen = leak.kind == "unknown" and session.execute(seen).first() is not None
                return "was found and is not a token of this vendor: nothing was done" if is_seen else None
            incident, action, disabled_at = str(found.id)[:8], found.action, found.disabled_at
        if action == Decision.DISABLED and disabled_at is not None:
            seconds = max(disabled_at.timestamp() - since, 0.0)
            return f"found and disabled after {seconds:.1f} s: incident {incident}"
        return f"found, {action.value.replace('_', ' ')}: incident {incident}"


def play(*, keep: bool = False) -> int:
    """Run the sandbox until Ctrl-C or until the service ends. Return the exit status."""
    console = Console(highlight=False)
    folder = Path(tempfile.mkdtemp(prefix="r8scan-sandbox-"))
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with contextlib.suppress(KeyboardInterrupt):
            _play(folder, console)
    except (NotReady, TimeoutError) as err:
        console.print(f"[red]failed[/red]: {escape(str(err))}; the logs are service.log and serve.log in {folder}")
        keep = True
        return 1
    else:
        return 0
    finally:
        if keep:
            console.print(f"everything is kept in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
            console.print("the sandbox has ended, and its folder is removed")


def _play(folder: Path, console: Console) -> None:
    journal = _Journal(console)
    password = secrets.token_urlsafe(12)
    port = _free_port()
    with contextlib.ExitStack() as stack:
        surroundings = stack.enter_context(
            world.running(
                folder,
                github_token="sandbox",  # noqa: S106 - the sandbox accepts any
                web_port=str(port),
                console_password_hash=users.hash_password(password),
            )
        )
        _write_settings(folder, surroundings)
        journal.show("GitHub, the vendor's API and the mailbox run on loopback; r8scan is starting")
        leaks, watched = Leaks(surroundings), _Watched(surroundings, journal)

        def cause(kind: str) -> Leak:
            leak = leaks.cause(kind)
            watched.add(leak)
            journal.show(leak.sentence, "yellow")
            return leak

        service = stack.enter_context(surroundings.service())
        web = stack.enter_context(surroundings.service(command="serve", log=folder / "serve.log"))
        url = f"http://127.0.0.1:{port}/console/"
        page = stack.enter_context(served(leak_page.application(cause, journal.lines, surroundings.mailbox, url)))
        until(lambda: service.poll() is not None or _polls(surroundings), READY_SECONDS)
        until(lambda: web.poll() is not None or _answers(port), READY_SECONDS)
        _require_running(service, web)
        _explain(console, folder, page, url, password)
        with _typed(cause, console):
            while True:
                _require_running(service, web)
                watched.look()
                time.sleep(LOOK_SECONDS)


def _require_running(service: subprocess.Popen[bytes], web: subprocess.Popen[bytes]) -> None:
    for name, log, process in (("service", "service.log", service), ("console", "serve.log", web)):
        if process.poll() is not None:
            raise NotReady(f"the {name} has ended with status {process.returncode}, see {log}")


def _explain(console: Console, folder: Path, page: str, url: str, password: str) -> None:
    lines = [
        f"  Leaks    {page}/   (or: curl -X POST {page}/leak/push)",
        f"  Console  {url}   user {users.SETTINGS_USER}, password {password}",
        f"  r8scan   cd {folder} && {command()} status   (or: incidents show, and the beginning of an incident's id)",
        f"  Type a kind and Enter to leak: {', '.join(KINDS)}. Ctrl-C ends all.",
    ]
    console.print("\n" + "\n".join(lines) + "\n", markup=False, soft_wrap=True)


def command() -> str:
    """Return the command that runs r8scan: `r8scan` if it is on the PATH, otherwise its full path."""
    own = Path(sys.executable).parent / "r8scan"
    found = shutil.which("r8scan")
    return "r8scan" if found and Path(found).samefile(own) else shlex.quote(str(own))


def _write_settings(folder: Path, surroundings: World) -> None:
    """Write the sandbox's settings into the folder, for `r8scan` commands that are started there."""
    text = "".join(f"{name}='{value}'\n" for name, value in surroundings.settings.items())
    descriptor = os.open(folder / ".env", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)


@contextmanager
def _typed(cause: Callable[[str], Leak], console: Console) -> Iterator[None]:
    """Read kinds of leaks from standard input in a thread, and cause these leaks."""
    ended = threading.Event()

    def read() -> None:
        with selectors.DefaultSelector() as selector:
            try:
                selector.register(sys.stdin, selectors.EVENT_READ)
            except (OSError, ValueError):
                return  # nobody types, because standard input is a file or empty
            rest = b""
            while not ended.is_set():
                if not selector.select(0.2):
                    continue
                # `readline` could keep a second line in its buffer, where the selector does not see it.
                part = os.read(sys.stdin.fileno(), MAX_TYPED)
                if not part:
                    return
                *lines, rest = (rest + part)[-MAX_TYPED:].split(b"\n")
                for line in lines:
                    obey(line.decode("utf-8", "replace").strip().lower())

    def obey(kind: str) -> None:
        try:
            if kind:
                cause(kind)
        except UnknownKind as err:
            console.print(escape(str(err)), soft_wrap=True)

    thread = threading.Thread(target=read, name="sandbox-typed", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(2)


def _polls(surroundings: World) -> bool:
    with surroundings.database.read() as session:
        statement = select(SourceState.last_success_at).where(SourceState.source == "public_events")
        return session.execute(statement).scalar_one_or_none() is not None


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
