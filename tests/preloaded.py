"""What every command imports, for a process that commands are forked from."""

from __future__ import annotations

from workers.cli.app import build

build()
