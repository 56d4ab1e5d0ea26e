"""Imports the modules of the `r8scan` command, so that a fork of this process can run the command sooner."""

from __future__ import annotations

import typer

from workers.cli.app import COMMANDS, build

root = typer.main.get_command(build())
for name in COMMANDS:
    assert root.commands[name]  # type: ignore[attr-defined]  # it is a group; the look-up imports the command
