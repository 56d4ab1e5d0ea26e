"""The `r8scan` command."""

from __future__ import annotations


def main() -> None:
    """Run the console script. It imports the commands late, so that `r8scan --help` answers at once."""
    from workers.cli.app import run

    run()
