"""Runs the `r8scan` command in a separate process, for tests."""

from __future__ import annotations

import multiprocessing
import multiprocessing.forkserver
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from unittest import mock

SECONDS = 60.0
PRELOADED = ("tests.commands", "tests.preloaded")


def installed(
    arguments: Sequence[str], environment: dict[str, str], folder: Path, stdin: str
) -> subprocess.CompletedProcess[str]:
    """Run the installed `r8scan` in the given folder, with only these environment variables."""
    command = [str(Path(sys.executable).parent / "r8scan"), *arguments]
    return subprocess.run(
        command,
        input=stdin,
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def forked(
    arguments: Sequence[str], environment: dict[str, str], folder: Path, stdin: str, *, seconds: float = SECONDS
) -> subprocess.CompletedProcess[str]:
    """Run `r8scan` in a fork of a process that has already imported its modules.

    Raises:
        TimeoutError: The command ran longer than `seconds` and was killed.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    with mock.patch.dict(os.environ, {"PATH": os.environ["PATH"]}, clear=True):
        multiprocessing.forkserver.ensure_running()
    with tempfile.TemporaryDirectory(prefix="r8command-") as stream_folder:
        paths = [f"{stream_folder}/{name}" for name in ("stdin", "stdout", "stderr")]
        Path(paths[0]).write_text(stdin, encoding="utf-8", errors="surrogateescape")
        child = context.Process(target=_run, args=([*arguments], environment, str(folder), paths))
        child.start()
        child.join(seconds)
        if child.exitcode is None:
            child.kill()
            child.join()
            raise TimeoutError(f"r8scan {' '.join(arguments)} did not end in {seconds:g} s")
        out, err = (Path(path).read_text(encoding="utf-8", errors="strict") for path in paths[1:])
    return subprocess.CompletedProcess(["r8scan", *arguments], child.exitcode, out, err)


def _run(arguments: list[str], environment: dict[str, str], folder: str, paths: list[str]) -> None:
    """Run the command in the forked process. `paths` are the files for standard input, output and error."""
    for number, (path, flags) in enumerate(zip(paths, (os.O_RDONLY, *[os.O_WRONLY | os.O_CREAT] * 2), strict=True)):
        file = os.open(path, flags, 0o600)
        os.dup2(file, number)
        os.close(file)
    # The installed command runs in the C locale, in which Python uses this encoding and error handler (PEP 540).
    sys.stdin = open(0, encoding="utf-8", errors="surrogateescape", closefd=False)  # noqa: SIM115 - for the whole process
    sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")  # type: ignore[union-attr]  # it is a text stream
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = ["r8scan", *arguments]
    warnings.simplefilter("error")
    from workers.cli import main

    main()
