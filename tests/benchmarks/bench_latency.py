"""The time from a leak's appearance on GitHub's timeline until its token is disabled.

Run: python -m tests.benchmarks.bench_latency [--leaks N]
"""

from __future__ import annotations

import argparse
import random
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from sqlalchemy import select

from scanner.records.models import ApiToken
from scanner.records.source_models import SourceState
from workers.sandbox import world
from workers.sandbox.tokens import random_token
from workers.sandbox.world import World, until


def measure(leaks: int) -> list[float]:
    """Push `leaks` leaks at random moments. Return the sorted times in seconds until each token was disabled."""
    folder = Path(tempfile.mkdtemp(prefix="r8scan-bench-"))
    try:
        with world.running(folder) as surroundings, surroundings.service():
            until(lambda: _polls(surroundings), 60)
            surroundings.github.create_repository("ana/app")
            work = surroundings.workplace("ana/app")
            work.commit("first")
            work.push()
            visible: dict[str, float] = {}
            for number in range(leaks):
                token = random_token()
                digest = surroundings.register(token)
                work.write(f"app{number}.py", f"x = '{token}'\n")
                work.commit("oops")
                work.push()
                newest = surroundings.github.timeline.page(1, 1)[0]["id"]
                visible[digest] = surroundings.github.timeline.visible_at[newest]
                time.sleep(random.random())
            until(lambda: all(_disabled(surroundings).get(digest) for digest in visible), 60)
            at = _disabled(surroundings)
            return sorted(at[digest] - seen for digest, seen in visible.items())
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _polls(surroundings: World) -> bool:
    with surroundings.database.read() as session:
        statement = select(SourceState.last_success_at).where(SourceState.source == "public_events")
        return session.execute(statement).scalar_one_or_none() is not None


def _disabled(surroundings: World) -> dict[str, float]:
    with surroundings.database.read() as session:
        rows = session.execute(select(ApiToken.digest, ApiToken.disabled_at).where(ApiToken.disabled_at.is_not(None)))
        return {digest: at.timestamp() for digest, at in rows if at}


def main() -> None:
    """Print the median, the 95th percentile and the maximum of the times."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--leaks", type=int, default=60)
    parser.add_argument("--quick", action="store_true", help="fewer leaks")
    options = parser.parse_args()
    seconds = measure(15 if options.quick else options.leaks)
    p95 = statistics.quantiles(seconds, n=20)[-1]
    print(f"visible to disabled, {len(seconds)} leaks, poll interval 1 s:")
    print(f"  p50 {statistics.median(seconds):.2f} s   p95 {p95:.2f} s   longest {seconds[-1]:.2f} s")


if __name__ == "__main__":
    main()
