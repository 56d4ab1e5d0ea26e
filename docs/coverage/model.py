"""The coverage model's command: prints its tables, or writes them and the charts into docs.

Run: python docs/coverage/model.py [--write]
"""

from __future__ import annotations

import argparse
import sys

from coverage_model.inputs import InputError, load
from coverage_model.page import INPUTS, made_files
from coverage_model.results import compute
from coverage_model.tables import tables


def main() -> int:
    """Compute and print, or write; the exit status."""
    parser = argparse.ArgumentParser(description="What r8scan can see of public GitHub; its inputs are in inputs.toml")
    parser.add_argument("--write", action="store_true", help="write tables and charts into docs")
    write = parser.parse_args().write
    try:
        results = compute(load(INPUTS))
        if not write:
            print("\n\n".join(f"{name}\n\n{table}" for name, table in tables(results).items()))
            return 0
        for path, content in made_files(results).items():
            path.write_text(content, encoding="utf-8")
            print(f"wrote {path}")
    except (InputError, OSError, ValueError) as err:
        print(f"coverage model: {err}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
