"""The coverage model's command: prints its tables, or writes them and the charts into docs.

Run: python docs/coverage/model.py [--write | --status FILE]
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from coverage_model.inputs import InputError, load
from coverage_model.measured import with_measurements
from coverage_model.page import INPUTS, made_files
from coverage_model.results import compute
from coverage_model.tables import tables


def main() -> int:
    """Compute the results, and print or write them. Return the exit status."""
    parser = argparse.ArgumentParser(description="What r8scan can see of public GitHub; its inputs are in inputs.toml")
    parser.add_argument("--write", action="store_true", help="write tables and charts into docs")
    parser.add_argument(
        "--status",
        metavar="FILE",
        help="the output of r8scan status --json, whose measurements replace inputs; - is stdin",
    )
    options = parser.parse_args()
    if options.write and options.status:
        parser.error("the pages show the given inputs: --write and --status exclude each other")
    try:
        inputs = load(INPUTS)
        if options.status:
            text = sys.stdin.read() if options.status == "-" else Path(options.status).read_text(encoding="utf-8")
            status = json.loads(text)
            inputs, replaced = with_measurements(inputs, status if isinstance(status, dict) else {})
            for one in replaced:
                print(f"measured: {one.name} = {one.measured:.4g} instead of {one.given:.4g}")
            print(f"{len(replaced)} inputs were measured; the others are as in {INPUTS.name}\n")
        results = compute(inputs)
        if not options.write:
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
