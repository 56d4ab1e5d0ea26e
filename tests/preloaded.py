"""The modules that every command imports, for the process from which commands are forked."""

from __future__ import annotations

from workers.cli.app import build

build()
