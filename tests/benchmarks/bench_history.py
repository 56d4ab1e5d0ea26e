"""The speed of scanning a whole git history, compared with git itself and with Kingfisher.

Run: python -m tests.benchmarks.bench_history [--quick] (To scan your own repository, set the environment variable
BENCH_REPO to its path.)
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import IO, NamedTuple

from scanner.git_children import environment
from tests.benchmarks import kingfisher
from tests.benchmarks.corpora import CACHE, source_files
from tests.processes import family

OURS = (
    "import sys, pathlib; from scanner.detection import Detector; "
    "from scanner.detection.history.scan import scan_history; "
    "from scanner.isolation import shared_pool; "
    "h = scan_history(pathlib.Path(sys.argv[1]), Detector(reader=shared_pool()), readers=int(sys.argv[2])); "
    "print(h.objects, h.bytes, len(h.candidates), dict(h.unread))"
)
CAT_FILE = ("cat-file", "--batch-all-objects", "--unordered", "--buffer", "--batch")


def generated() -> Path:
    """Return the path of a generated repository with 3,000 commits of real source files."""
    target = CACHE / "history.git"
    if target.exists():
        return target
    chance = random.Random(1)
    texts = [path.read_bytes() for path, _ in zip(source_files(), range(1500), strict=False)]
    stream = bytearray()
    for number in range(3000):
        stream += b"commit refs/heads/main\ncommitter A <a@example.com> %d +0000\ndata 2\nc\n" % (10**9 + number)
        for _ in range(3):
            which = chance.randrange(len(texts))
            lines = texts[which].splitlines(keepends=True)
            lines.insert(chance.randrange(len(lines) + 1), b"# changed %d\n" % number)
            texts[which] = b"".join(lines)
            stream += b"M 644 inline d%d/f%d\ndata %d\n%s\n" % (which % 40, which, len(texts[which]), texts[which])
    partial = target.with_suffix(".partial")
    CACHE.mkdir(exist_ok=True)
    subprocess.run(["git", "init", "-q", "--bare", str(partial)], check=True, env=environment())
    git = ["git", f"--git-dir={partial}"]
    subprocess.run([*git, "fast-import", "--quiet"], input=bytes(stream), check=True, env=environment())
    subprocess.run([*git, "repack", "-adfq"], check=True, env=environment())
    partial.rename(target)
    return target


def git_dir(path: Path) -> Path:
    return path / ".git" if (path / ".git").is_dir() else path


class Run(NamedTuple):
    """The cost of one command: wall time and CPU time in seconds, and the peak memory in MiB."""

    wall: float
    processor: float
    memory: float


def timed(command: list[str], cwd: Path, output: int | IO[bytes] = subprocess.DEVNULL) -> Run:
    """Run a command and return its cost. Write its standard output to `output`."""
    begin = time.perf_counter()
    child = subprocess.Popen(command, cwd=cwd, stdout=output, stderr=subprocess.DEVNULL, env={**os.environ})
    peak, done = [0.0], threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            peak[0] = max([peak[0], *(_anonymous(one.pid) for one in family(child.pid))])

    watcher = threading.Thread(target=watch)
    watcher.start()
    _, _, usage = os.wait4(child.pid, 0)
    child.returncode = 0
    seconds = time.perf_counter() - begin
    done.set()
    watcher.join()
    return Run(seconds, usage.ru_utime + usage.ru_stime, peak[0])


def _anonymous(pid: int) -> float:
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) / 1024
    except OSError:
        return 0.0
    return 0.0


def main() -> None:
    """Scan the repository with each program, and print its times and memory."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="one round, without git log")
    quick = parser.parse_args().quick
    repository = Path(os.environ["BENCH_REPO"]).absolute() if "BENCH_REPO" in os.environ else generated()
    git_folder = git_dir(repository)
    git = ["git", f"--git-dir={git_folder}"]
    with tempfile.TemporaryDirectory() as folder:
        contestants = {
            "git cat-file --batch, 1 process": [*git, *CAT_FILE],
            "r8scan, 1 reader": [sys.executable, "-c", OURS, str(git_folder), "1"],
            "r8scan, 2 readers": [sys.executable, "-c", OURS, str(git_folder), "2"],
        }
        if not quick:
            contestants["git log -p --all"] = [*git, "log", "-p", "--all"]
        if (program := kingfisher.binary()) is not None:
            rule = kingfisher.write_rule(Path(folder))
            contestants["Kingfisher, one rule"] = kingfisher.command(program, repository, rule)
            contestants["Kingfisher --turbo, one rule"] = kingfisher.command(program, repository, rule, "--turbo")
        results: dict[str, list[Run]] = {name: [] for name in contestants}
        for _ in range(1 if quick else 3):
            for name, command in contestants.items():
                results[name].append(timed(command, Path.cwd()))
    first = next(iter(results))
    for name, runs in results.items():
        pairs = list(zip(runs, results[first], strict=True))
        wall = statistics.median(run.wall / floor.wall for run, floor in pairs)
        processor = statistics.median(run.processor / floor.processor for run, floor in pairs)
        seconds, peak = statistics.median(run.wall for run in runs), max(run.memory for run in runs)
        print(
            f"  {name:<34} {seconds:6.2f} s   {wall:5.2f} of cat-file by the clock, {processor:5.2f} of its processor"
            f" time   {peak:5.0f} MB anonymous, largest process"
        )


if __name__ == "__main__":
    main()
