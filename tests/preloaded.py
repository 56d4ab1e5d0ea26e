"""Imports the modules of the `r8scan` command. Tests fork a process that has imported this module, and run a command in
the fork. The command starts faster, because nothing must be imported again.
"""

from __future__ import annotations

import typer

from workers.cli.app import COMMANDS, build

root = typer.main.get_command(build())
for name in COMMANDS:
    assert root.commands[name]  # type: ignore[attr-defined]  # it is a group; the look-up imports the command
