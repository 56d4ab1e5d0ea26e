"""Starts the `r8scan` command for `python -m workers`."""

from workers.cli import main

main()
