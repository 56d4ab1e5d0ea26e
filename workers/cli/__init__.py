"""The `r8scan` command."""

from __future__ import annotations


def main() -> None:
    """Run the console script. It imports the commands late, so that `r8scan --help` answers at once."""
    import gc
    import os

    # Pydantic would look for plugins in the metadata of every installed package.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    gc.disable()  # until the command is imported: collections would find nothing and take a tenth of that time
    from workers.cli.app import run

    run()
