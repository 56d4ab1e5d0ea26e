"""Runs the `r8scan` command by `python -m workers`."""

from workers.cli import main

main()
