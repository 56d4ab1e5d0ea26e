"""Runs `r8scan demo`: a token is pushed, found and disabled, and its owner gets a mail."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from email.message import EmailMessage
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from sqlalchemy import select

from scanner.records.models import ApiToken, ScanJob
from scanner.records.source_models import SourceState
from workers.sandbox import world
from workers.sandbox.tokens import random_token
from workers.sandbox.world import World, until

REPOSITORY = "ana/image-bot"
STEP_SECONDS = 30.0


class StepFailed(Exception):
    """Raised if a step of the demonstration failed. The message names the step."""


class _Story:
    """Prints each step of the demonstration with the seconds since the start."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._start = time.monotonic()

    def show(self, text: str, style: str = "") -> None:
        seconds = time.monotonic() - self._start
        self._console.print(f"[dim]{seconds:6.2f} s[/dim]  [{style or 'default'}]{escape(text)}[/]", soft_wrap=True)

    def expect(self, what: str, happened: Callable[[], object], timeout: float = STEP_SECONDS) -> None:
        try:
            until(happened, timeout)
        except TimeoutError as err:
            raise StepFailed(f"{what}: {err}") from err


def run_demo(*, keep: bool = False) -> int:
    """Run the demonstration. Return 0 if every step worked, otherwise 1."""
    console = Console(highlight=False)
    folder = Path(tempfile.mkdtemp(prefix="r8scan-demo-"))
    try:
        with world.running(folder) as surroundings:
            _play(surroundings, console)
    except StepFailed as err:
        console.print(f"[red]failed[/red]: {escape(str(err))}")
        _show_log(folder, console)
        return 1
    finally:
        if keep:
            console.print(f"everything is kept in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    return 0


def _play(surroundings: World, console: Console) -> None:
    story = _Story(console)
    token = random_token()
    digest = surroundings.register(token)
    shown = f"{token[:6]}…{token[-4:]}"
    surroundings.github.create_repository(REPOSITORY)
    work = surroundings.workplace(REPOSITORY)
    work.write("README.md", "# image-bot\n")
    work.commit("Begin")
    work.push()
    story.expect("the vendor's API accepts the token", lambda: surroundings.answer(token) == 200)
    story.show(f"The vendor's API answers 200 to Ana's token {shown}")
    with surroundings.service() as service:
        story.show("r8scan run: Redis, poller, responder, scanner, rescanner and beat are starting")
        story.expect("the service polls", lambda: service.poll() is not None or _polls(surroundings))
        if service.poll() is not None:
            raise StepFailed("the service ended at once")
        story.expect("the service reads what was there before", lambda: _is_idle(surroundings))
        story.show("The service polls /events of a GitHub on loopback, once a second")
        visible = _leak(surroundings, work.write, work.commit, work.push, token)
        story.show("Ana pushes two commits at once: one adds the token in app.py, the next removes it", "yellow")
        story.expect("the token is disabled", lambda: _disabled(surroundings, digest))
        delay = _disabled(surroundings, digest) - visible
        story.show(f"Found and disabled {delay:.2f} s after the push became visible", "green")
        story.expect("the vendor's API refuses the token", lambda: surroundings.answer(token) == 401)
        story.show("The vendor's API, told by a signed webhook to forget what it had cached, answers 401", "green")
        if not surroundings.mailbox.wait_for(1, STEP_SECONDS):
            raise StepFailed("the mail arrives: it did not come")
        story.show("The mail to Ana has arrived", "green")
    if service.returncode != 0:
        raise StepFailed(f"the service stops in order: it ended with status {service.returncode}")
    story.show("The service has stopped")
    if token.encode() in b"".join(path.read_bytes() for path in surroundings.state.rglob("*") if path.is_file()):
        raise StepFailed("no raw token is stored: it stands in the state folder")
    story.show("Nothing that the service wrote holds the token itself")
    _show_mail(surroundings.mailbox.messages[0], console)


def _leak(
    surroundings: World,
    write: Callable[[str, str], None],
    commit: Callable[[str], str],
    push: Callable[[], None],
    token: str,
) -> float:
    """Push two commits: one adds the token, one removes it. Return when the push became visible."""
    write("app.py", f'import replicate\n\nclient = replicate.Client(api_token="{token}")\n')
    commit("Generate images")
    write("app.py", 'import os\nimport replicate\n\nclient = replicate.Client(api_token=os.environ["TOKEN"])\n')
    commit("Read the token from the environment")
    push()
    newest = surroundings.github.timeline.page(1, 1)[0]
    return surroundings.github.timeline.visible_at[newest["id"]]


def _polls(surroundings: World) -> bool:
    with surroundings.database.read() as session:
        statement = select(SourceState.last_success_at).where(SourceState.source == "public_events")
        return session.execute(statement).scalar_one_or_none() is not None


def _is_idle(surroundings: World) -> bool:
    with surroundings.database.read() as session:
        ended = session.execute(select(ScanJob.state)).scalars().all()
    return bool(ended) and not {"queued", "running"} & set(ended)


def _disabled(surroundings: World, digest: str) -> float:
    """Return when the token was disabled, in seconds since the epoch, or 0."""
    with surroundings.database.read() as session:
        at = session.execute(select(ApiToken.disabled_at).where(ApiToken.digest == digest)).scalar_one()
    return at.timestamp() if at else 0.0


def _show_mail(message: EmailMessage, console: Console) -> None:
    text, html = message.get_body(("plain",)), message.get_body(("html",))
    if text is None or html is None:
        raise StepFailed("the mail has a text and an HTML part: one is missing")
    console.rule(escape(str(message["Subject"])))
    console.print(escape(str(text.get_content())), soft_wrap=True)
    console.rule()
    with tempfile.NamedTemporaryFile("w", suffix=".html", prefix="r8scan-demo-mail-", delete=False) as file:
        file.write(str(html.get_content()))
    console.print(f"The same mail as HTML: {file.name}", soft_wrap=True)


def _show_log(folder: Path, console: Console) -> None:
    log = folder / "service.log"
    if log.exists():
        console.print("The service's last lines:")
        for line in log.read_text(errors="replace").splitlines()[-30:]:
            console.print(escape(line), soft_wrap=True)
