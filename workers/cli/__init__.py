"""The `r8scan` command line. `main` starts it."""

from __future__ import annotations


def main() -> None:
    """Run the `r8scan` command."""
    import gc
    import os

    _open_closed_streams()
    # Without this, Pydantic would search all installed packages for plugins, which takes time.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    # Garbage collection would find nothing during the import, but take a tenth of its time.
    gc.disable()
    from workers.cli.app import run

    run()


def _open_closed_streams() -> None:
    """Open `/dev/null` in place of each standard stream that is closed."""
    # If a standard stream stays closed, the next opened file gets its number, and output is written into this file.
    import os
    import sys

    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            # A newly opened file gets the lowest free number, which is that of the closed stream.
            os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115 - it stays open
