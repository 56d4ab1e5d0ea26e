"""Keeps the state folder private, and checks that no other user can write to a file."""

from __future__ import annotations

import os
import resource
import stat
from pathlib import Path

PRIVATE_UMASK = 0o077
MAX_TIGHTENED = 100_000
"""Limit of the entries whose permissions are checked at a start."""
_OPEN_TO_OTHERS = 0o077
_WRITABLE_BY_OTHERS = 0o022
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class NotOurs(Exception):
    """Raised if a file or folder belongs to another user, or other users may write to it."""


def create_files_privately() -> None:
    """Make new files readable by this user only, and disable core dumps. Child processes inherit both settings."""
    os.umask(PRIVATE_UMASK)
    # A core dump would contain the raw tokens in memory.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def check_trusted(path: Path) -> None:
    """Check that only this user or root can write to the file or folder.

    Raises:
        NotOurs: Another user owns the file or folder, or its group or other users may write to it.
        OSError: Its attributes cannot be read.
    """
    found = path.stat()
    if found.st_uid not in (os.geteuid(), 0):
        raise NotOurs(f"{path} belongs to another user (uid {found.st_uid})")
    if found.st_mode & _WRITABLE_BY_OTHERS:
        raise NotOurs(f"others may write to {path} (mode {stat.S_IMODE(found.st_mode):04o})")


def make_private(folder: Path) -> None:
    """Make the folder and its contents accessible to this user only. Do nothing if the folder does not exist.

    Symbolic links are not followed, and files of other users are not changed.

    Raises:
        NotOurs: Another user owns the folder.
        OSError: The permissions of a file or folder cannot be changed.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        found = os.fstat(descriptor)
        if found.st_uid != os.geteuid():
            raise NotOurs(f"{folder} belongs to another user (uid {found.st_uid})")
        was_open = bool(found.st_mode & _OPEN_TO_OTHERS)
        if was_open:
            os.fchmod(descriptor, 0o700)
        _tighten(descriptor, MAX_TIGHTENED, everything=was_open)
    finally:
        os.close(descriptor)


def _tighten(folder: int, budget: int, *, everything: bool) -> int:
    """Make the entries of a private folder private.

    Returns:
        How many entries may still be checked after this call.
    """
    for entry in list(os.scandir(folder)):
        if budget <= 0:
            break
        budget -= 1
        found = entry.stat(follow_symlinks=False)
        is_folder = stat.S_ISDIR(found.st_mode)
        is_open = bool(found.st_mode & _OPEN_TO_OTHERS)
        if found.st_uid != os.geteuid() or not (is_folder or stat.S_ISREG(found.st_mode)):
            continue
        try:
            if is_open:
                # Do not open the file: closing a SQLite file would release this process's locks on it.
                os.chmod(entry.name, found.st_mode & 0o700, dir_fd=folder)
            if is_folder and (is_open or everything):
                descriptor = os.open(entry.name, _FOLDER_FLAGS, dir_fd=folder)
                try:
                    budget = _tighten(descriptor, budget, everything=True)
                finally:
                    os.close(descriptor)
        except FileNotFoundError:
            continue  # another process has removed it
    return budget


def create_privately(path: Path) -> None:
    """Create an empty file that only this user can read. If the file exists, change its permissions.

    Raises:
        OSError: The file cannot be created.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        found = path.stat()
        if found.st_uid == os.geteuid() and stat.S_ISREG(found.st_mode) and found.st_mode & _OPEN_TO_OTHERS:
            path.chmod(0o600)
