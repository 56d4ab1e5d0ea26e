"""Measures how much Redis and the logs grow while Redis or the workers are stopped, for `make outage`.

Each outage lasts `--minutes` (default: 60). A growth of a megabyte or more is a failure.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.benchmarks.faulty_service import Service, running
from tests.benchmarks.table_faults import seconds_until

MAX_BYTES = 1_000_000
PARTS = 4
CONSUMERS = ("poller", "responder", "scanner", "rescanner")


def log_bytes(service: Service) -> int:
    return sum(path.stat().st_size for path in service.world.folder.glob("*.log"))


def redis_bytes(service: Service) -> int:
    with contextlib.closing(service.client()) as client:
        return int(client.info("memory")["used_memory"])


def grown(measure: Callable[[Service], int], service: Service, minutes: float) -> list[int]:
    """Return the growth in bytes in each quarter of `minutes` minutes.

    `measure` returns the current size in bytes.
    """
    sizes = [measure(service)]
    for _ in range(PARTS):
        time.sleep(minutes * 60 / PARTS)
        sizes.append(measure(service))
    return [after - before for before, after in itertools.pairwise(sizes)]


def shown(name: str, parts: list[int]) -> bool:
    """Print the growth in bytes of each quarter. Return whether the sum is below the limit."""
    print(f"{name}: {sum(parts) / 1000:,.1f} kB ({', '.join(f'{part / 1000:,.1f}' for part in parts)})", flush=True)
    return sum(parts) < MAX_BYTES


def main() -> int:
    """Stop Redis, and then the workers, and measure the growth. Return 1 if anything grew too much."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    minutes = parser.parse_args().minutes
    with tempfile.TemporaryDirectory(prefix="r8outage-") as name, running(Path(name)) as (service, _):
        seconds_until(lambda: not service.problems())
        service.redis.close()
        passed = [shown(f"Redis away for {minutes:g} minutes, logs", grown(log_bytes, service, minutes))]
        service.start_redis()
        seconds_until(lambda: not service.problems())
        service.send(signal.SIGTERM, *CONSUMERS)
        logs = log_bytes(service)
        memory = grown(redis_bytes, service, minutes)
        passed.append(shown(f"nobody consumes for {minutes:g} minutes, Redis", memory))
        passed.append(shown(f"nobody consumes for {minutes:g} minutes, logs", [log_bytes(service) - logs]))
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
