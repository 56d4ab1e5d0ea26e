"""`python -m workers`: the same as the `r8scan` command."""

from workers.cli import main

main()
