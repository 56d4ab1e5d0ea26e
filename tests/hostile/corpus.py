"""The list of all hostile inputs.

Run: python -m tests.hostile.corpus FOLDER (This writes the inputs into the folder as files.)
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.hostile.inputs import archives, counts, documents, edges, git, streams, texts
from tests.hostile.registry import INPUTS, Delivery, HostileInput

__all__ = ["FAMILIES", "INPUTS", "inputs_for"]

FAMILIES = (archives, streams, documents, counts, git, texts, edges)


def inputs_for(*deliveries: Delivery, with_large: bool = False) -> list[HostileInput]:
    """Return the hostile inputs that reach r8scan in one of these ways.

    Args:
        deliveries: The ways, such as `file`.
        with_large: Whether to include inputs that take seconds to build or to read.
    """
    found = (one for one in INPUTS.values() if one.delivery in deliveries)
    return [one for one in found if with_large or not one.is_large]


def main() -> None:
    """Write all hostile inputs that are files into a folder."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for one in inputs_for("file", with_large=True):
        (folder / one.name).write_bytes(one.content())


if __name__ == "__main__":
    main()
