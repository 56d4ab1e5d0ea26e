"""Runs git on repositories that strangers made: no configuration but ours, no hooks, no network, no questions."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

_SAFE = {
    "core.fsmonitor": "false",
    "core.hooksPath": os.devnull,
    "core.useReplaceRefs": "false",
    "core.commitGraph": "false",
    "protocol.allow": "never",
    "safe.directory": "*",
    "safe.bareRepository": "all",
    "log.showSignature": "false",
    "log.mailmap": "false",
    "diff.external": "",
    "gc.auto": "0",
}


class GitError(Exception):
    """git could not do it; `detail` is what it said, hostile until it is redacted."""

    def __init__(self, message: str, detail: str = "") -> None:
        super().__init__(message)
        self.detail = detail


def environment(**config: str) -> dict[str, str]:
    """The whole environment of a git process; `config` adds settings, with `__` for the dots of their names."""
    settings = {**_SAFE, **{name.replace("__", "."): value for name, value in config.items()}}
    variables = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": os.devnull,
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_CONFIG_COUNT": str(len(settings)),
    }
    for number, (key, value) in enumerate(settings.items()):
        variables[f"GIT_CONFIG_KEY_{number}"], variables[f"GIT_CONFIG_VALUE_{number}"] = key, value
    return variables


@contextmanager
def started(git_dir: Path, arguments: Sequence[str], **config: str) -> Iterator[subprocess.Popen[bytes]]:
    """A git process with pipes, killed when the block ends. It ends by itself when its pipes do, and so with us."""
    try:
        child = subprocess.Popen(
            ["git", f"--git-dir={git_dir}", *arguments],
            env=environment(**config),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
        )
    except FileNotFoundError as err:
        raise GitError("git is not installed: histories cannot be read without it") from err
    try:
        yield child
    finally:
        child.kill()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                pipe.close()
        child.wait()


def lines(git_dir: Path, arguments: Sequence[str], *, separator: bytes = b"\n") -> Iterator[bytes]:
    """What git prints, split as it comes. GitError when it fails."""
    with started(git_dir, arguments) as child:
        assert child.stdin is not None  # noqa: S101 - it was asked for
        assert child.stdout is not None  # noqa: S101 - it was asked for
        child.stdin.close()
        rest = b""
        while block := child.stdout.read(1 << 20):
            parts = (rest + block).split(separator)
            rest = parts.pop()
            yield from parts
        if rest:
            yield rest
        if child.wait() != 0:
            raise GitError(f"git {arguments[0]} failed with status {child.returncode}")
