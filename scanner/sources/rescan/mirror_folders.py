"""Private folders for clones of repositories. A folder is removed after its use, or later if a worker crashed."""

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
    """Yield a path at which a repository can be cloned. The clone is removed when the `with` block ends."""
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
    """Delete the folders of clones whose process has ended. Return the number of deleted folders."""
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
                continue  # its owner is still working, or has just removed it
            shutil.rmtree(folder, ignore_errors=True)
            removed += 1
    return removed


@contextmanager
def _only_one(root: Path) -> Iterator[None]:
    """Lock the root folder while a folder for a clone is created and locked."""
    # Without this lock, another process could delete the new folder before the folder's own lock exists.
    descriptor = os.open(root, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
