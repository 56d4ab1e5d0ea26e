"""Where mirrors lie while they are read: folders of the state folder that only we may read, gone at the end of a step.

After a crash whoever comes next removes them: the folder's lock tells whether its owner still lives.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FOLDER = "mirrors"


@contextmanager
def mirror_folder(state_dir: Path, job_id: int) -> Iterator[Path]:
    """A path for a mirror of this job's, removed with all that is in it when the block ends."""
    root = state_dir / FOLDER
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        with _only_one(root):
            folder = Path(tempfile.mkdtemp(prefix=f"job-{job_id}-", dir=root))
            file = stack.enter_context((folder / "lock").open("a"))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            yield folder / "mirror.git"
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def remove_abandoned(state_dir: Path) -> int:
    """Delete mirrors whose owner is gone; the number deleted."""
    root = state_dir / FOLDER
    removed = 0
    if not root.is_dir():
        return removed
    with _only_one(root):
        for folder in root.glob("job-*"):
            try:
                with (folder / "lock").open("a") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, FileNotFoundError):
                continue  # its owner is at work, or has just removed it
            shutil.rmtree(folder, ignore_errors=True)
            removed += 1
    return removed


@contextmanager
def _only_one(root: Path) -> Iterator[None]:
    """Nobody else makes or removes mirrors meanwhile: one that is just made has no lock of its own yet."""
    descriptor = os.open(root, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
