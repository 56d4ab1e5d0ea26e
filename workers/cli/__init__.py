"""The `r8scan` command."""

from __future__ import annotations


def main() -> None:
    """Run the `r8scan` command. Import its modules late, so that `r8scan --help` answers at once."""
    import gc
    import os

    # Without this, Pydantic would read the metadata of every installed package to look for plugins, which takes time.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    gc.disable()  # until the command is imported: collections would find nothing and take a tenth of that time
    from workers.cli.app import run

    run()
