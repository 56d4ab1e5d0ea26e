"""The `r8scan` command."""

from __future__ import annotations


def main() -> None:
    """Entry point of the console script. Imports are late, so that `r8scan --help` answers at once."""
    from workers.cli.app import run

    run()
