"""The packs and folders of loose objects (here called stores) of a git repository."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from scanner.detection.git import git_formats

MAX_PLAIN_INDEX_BYTES = 16 << 20
"""The maximum size of a pack's index that this module checks."""

_MAGIC = b"\xfftOc\0\0\0\2"
_IDS_AT = len(_MAGIC) + 256 * 4
_LARGE = 0x80
_PACK_HEAD = 12


@dataclass(frozen=True, slots=True)
class Store:
    """A pack (the `.pack` file), or a folder of loose objects, of a git repository.

    `hash_bytes` is the size of an object id. `size` is the size of the pack in bytes, or 0.
    """

    path: Path
    hash_bytes: int
    size: int = 0

    @property
    def is_pack(self) -> bool:
        return self.path.name.endswith(".pack")

    @property
    def index(self) -> Path:
        return self.path.with_suffix(".idx")


@contextmanager
def shown_alone(git_dir: Path, store: Store) -> Iterator[Path]:
    """Make a git directory, inside `git_dir`, with only one pack or folder. It is removed after the `with` block."""
    with tempfile.TemporaryDirectory(prefix="store-", dir=git_dir) as folder:
        shown = Path(folder)
        (shown / "refs").mkdir()
        (shown / "HEAD").write_bytes((git_dir / "HEAD").read_bytes())
        (shown / "config").write_bytes((git_dir / "config").read_bytes())
        objects = shown / "objects"
        (objects / "pack").mkdir(parents=True)
        if store.is_pack:
            # Leave out other files beside the pack, such as a reverse index, because they may be forged.
            (objects / "pack" / "pack-1.pack").symlink_to(store.path.absolute())
            (objects / "pack" / "pack-1.idx").symlink_to(store.index.absolute())
        else:
            for name in os.listdir(store.path):
                if git_formats.is_fanout(name):
                    (objects / name).symlink_to((store.path / name).absolute())
        yield shown


def stored_objects(store: Store) -> int:
    """Return the number of loose objects in a folder, or 1 for a pack."""
    return 1 if store.is_pack else len(loose_objects(store))


def loose_objects(store: Store) -> list[str]:
    """Return the ids of the loose objects in a folder."""
    folders = [name for name in os.listdir(store.path) if git_formats.is_fanout(name)]
    names = [(folder, name) for folder in folders for name in os.listdir(store.path / folder)]
    return sorted(folder + name for folder, name in names if git_formats.of_loose_object(name) == store.hash_bytes)


def loose_bytes(store: Store) -> int:
    """Return the total size in bytes of the loose objects in a folder."""
    size = 0
    for oid in loose_objects(store):
        with contextlib.suppress(OSError):
            size += (store.path / oid[:2] / oid[2:]).stat().st_size
    return size


def has_plain_index(store: Store) -> bool:
    """Return whether a pack's index has the usual format, and lists each object id and each offset only once."""
    try:
        content = _small_file(store.index)
    except OSError:
        return False
    count = int.from_bytes(content[_IDS_AT - 4 : _IDS_AT])
    size = store.hash_bytes
    crcs_at = _IDS_AT + count * size
    offsets_at = crcs_at + 4 * count
    if not content.startswith(_MAGIC) or len(content) != offsets_at + 4 * count + 2 * size:
        return False
    ids = (content[at : at + size] for at in range(_IDS_AT, crcs_at, size))
    offsets = {content[at : at + 4] for at in range(offsets_at, offsets_at + 4 * count, 4)}
    return (
        len(offsets) == count
        and min(offsets, default=b"") == _PACK_HEAD.to_bytes(4)
        and max(offsets, default=b"")[0] < _LARGE
        and all(one < other for one, other in pairwise(ids))
    )


def _small_file(path: Path) -> bytes:
    """Return the content of a regular file, or b"" if the file is too large."""
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        state = os.fstat(file.fileno())
        is_small = stat.S_ISREG(state.st_mode) and state.st_size <= MAX_PLAIN_INDEX_BYTES
        return file.read(MAX_PLAIN_INDEX_BYTES) if is_small else b""
