"""Access to an untrusted git repository with git.

A repository's configuration can make git run programs, so git uses a new folder with a safe configuration.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from scanner.detection.git import git_formats
from scanner.detection.history.git_processes import GitError
from scanner.detection.history.object_stores import Store
from scanner.detection.history.repository_refs import MAX_PACKED_REFS, file_start, refs_of
from scanner.git_children import RECEIVING, environment, git_child

MAX_ALTERNATES = 50
"""The maximum number of other object folders (git alternates) that are read for one repository."""
MAX_SMALL_FILE = 64 * 1024
MAX_CONFIG = 1 << 20
MAX_BUNDLE_HEAD = 64 << 20
"""The maximum number of bytes in the list of refs at the beginning of a bundle."""
MAX_UNBUNDLE_SECONDS = 3600.0


@dataclass(slots=True)
class Repository:
    """An untrusted repository, prepared so that git can read it safely.

    Attributes:
        git_dir: The folder that r8scan made for git.
        tips: The object ids of branches and tags, in hex; may be incomplete.
        ref_names: The names of branches and tags that may contain a token.
        stored: The number of loose objects and packs by the size of their object ids (20 or 32 bytes).
    """

    git_dir: Path
    tips: list[str] = field(default_factory=list)
    ref_names: list[bytes] = field(default_factory=list)
    unread: Counter[str] = field(default_factory=Counter)
    stored: Counter[int] = field(default_factory=Counter)
    stores: list[Store] = field(default_factory=list)


def git_dir_of(path: Path) -> Path | None:
    """Return the git directory of a work tree or bare repository, or None for another folder."""
    dot_git = path / ".git"
    if dot_git.is_dir():
        return dot_git
    if dot_git.is_file():
        return _gitdir_in(dot_git)
    return path if is_bare(path) else None


def is_bare(path: Path) -> bool:
    """Return whether the folder is itself a git directory."""
    objects, head = path / "objects", path / "HEAD"
    return head.is_file() and objects.is_dir() and ((path / "refs").is_dir() or (path / "commondir").is_file())


def common_dir(git_dir: Path) -> Path:
    """Return the git directory that has the objects and refs, which a linked work tree shares."""
    named = _small(git_dir / "commondir")
    return git_dir / os.fsdecode(named) if named else git_dir


def _gitdir_in(file: Path) -> Path | None:
    text = _small(file)
    if not text.startswith(b"gitdir:"):
        return None
    target = file.parent / os.fsdecode(text[7:].strip())
    return target if target.is_dir() else None


def _small(path: Path) -> bytes:
    """Return the first line of a small file, or b"" if the file cannot be read."""
    return file_start(path, MAX_SMALL_FILE).partition(b"\n")[0].strip().replace(b"\0", b"")


@contextmanager
def opened(git_dir: Path) -> Iterator[Repository]:
    """Make a folder through which git can read the repository safely, and remove it after the `with` block.

    Raises:
        GitError: `git_dir` is not a git repository.
    """
    common = common_dir(git_dir)
    objects = common / "objects"
    if not objects.is_dir() or not (git_dir / "HEAD").is_file():
        raise GitError("there is no git repository")
    with tempfile.TemporaryDirectory(prefix="r8scan-git-") as folder:
        repository = Repository(Path(folder))
        _lay_out(repository, common)
        head = _small(git_dir / "HEAD")
        refs = refs_of(common)
        is_detached = git_formats.OBJECT_ID.fullmatch(head) is not None
        repository.tips = ([head.decode("ascii")] if is_detached else []) + refs.tips
        repository.ref_names = refs.names
        repository.unread.update(refs.unread)
        yield repository


@contextmanager
def unbundled(bundle: Path) -> Iterator[Path]:
    """Unpack a git bundle into a temporary repository, and remove the repository after the `with` block.

    Raises:
        GitError: the bundle is damaged, or needs objects that it does not contain.
    """
    head = file_start(bundle, MAX_BUNDLE_HEAD).partition(b"\n\n")[0]
    form = "sha256" if b"\n@object-format=sha256" in head else "sha1"
    with tempfile.TemporaryDirectory(prefix="r8scan-bundle-") as folder, (Path(folder) / "refs").open("w+b") as refs:
        git_dir = Path(folder) / "bundle.git"
        _receive(["git", "init", "--quiet", "--bare", f"--object-format={form}", "--template=", str(git_dir)], refs)
        _receive(["git", f"--git-dir={git_dir}", "bundle", "unbundle", str(bundle.absolute())], refs)
        refs.seek(0)
        (git_dir / "packed-refs").write_bytes(refs.read(MAX_PACKED_REFS))
        yield git_dir


def _receive(command: list[str], output: IO[bytes]) -> None:
    try:
        with git_child(command, env=environment(), limits=RECEIVING, stdout=output) as child:
            status = child.wait(MAX_UNBUNDLE_SECONDS)
    except FileNotFoundError as err:
        raise GitError("git is not installed: bundles cannot be read without it") from err
    except subprocess.TimeoutExpired as err:
        raise GitError("the bundle took too long") from err
    if status != 0:
        raise GitError("git cannot read the bundle")


def _lay_out(repository: Repository, common: Path) -> None:
    folder = repository.git_dir
    (folder / "refs").mkdir()
    (folder / "HEAD").write_text("ref: refs/heads/none\n")
    if (common / "shallow").is_file():
        repository.unread["shallow_clone"] += 1
        (folder / "shallow").symlink_to((common / "shallow").absolute())
    others = _object_folders(common / "objects", repository.unread)
    _link(common / "objects", folder / "objects", repository)
    (folder / "objects" / "info").mkdir()
    for number, other in enumerate(others):
        _link(other, folder / f"alternate-{number}", repository)
    listed = "".join(f"{folder}/alternate-{number}\n" for number in range(len(others)))
    (folder / "objects" / "info" / "alternates").write_text(listed)
    config = "[core]\n\trepositoryformatversion = 1\n\tbare = true\n"
    hash_bytes = _object_format(repository, file_start(common / "config", MAX_CONFIG))
    repository.stores = sorted(
        {store for store in repository.stores if store.hash_bytes == hash_bytes}, key=lambda store: str(store.path)
    )
    if hash_bytes == git_formats.SHA256:
        config += "[extensions]\n\tobjectformat = sha256\n"
    (folder / "config").write_text(config)


def _object_format(repository: Repository, config: bytes) -> int:
    """Return the size of the repository's object ids in bytes: 20 for SHA-1, or 32 for SHA-256."""
    chosen = git_formats.configured(config)
    other = git_formats.SHA1 + git_formats.SHA256 - chosen
    if repository.stored[other] and not repository.stored[chosen]:
        return other
    repository.unread["object_format_differs"] += repository.stored[other]
    return chosen


def _link(objects: Path, folder: Path, repository: Repository) -> None:
    """Make a folder with links to the packs and loose objects in `objects`."""
    folder.mkdir()
    try:
        with os.scandir(objects) as entries:
            names = [entry.name for entry in entries if git_formats.is_fanout(entry.name) or entry.name == "pack"]
    except OSError as err:
        raise GitError("the folder of its objects cannot be read") from err
    for name in names:
        try:
            _link_files(objects / name, folder / name, repository)
        except OSError:
            repository.unread["object_folder_unreadable"] += 1


def _link_files(source: Path, target: Path, repository: Repository) -> None:
    unread = repository.unread
    with os.scandir(source) as entries:
        files = {entry.name: entry.is_file() for entry in entries}
    unread["partial_clone"] = int(unread["partial_clone"] or any(name.endswith(".promisor") for name in files))
    for name, is_regular in files.items():
        if source.name != "pack":
            form = git_formats.of_loose_object(name) if is_regular else None
            store = Store(target.parent, form or 0)
        elif not is_regular or not name.endswith(".pack"):
            continue
        else:
            form = git_formats.of_index((source / name).with_suffix(".idx"))
            unread["pack_index_damaged"] += form is None and files.get(f"{name[:-5]}.idx", False)
            store = Store(source / name, form or 0, (source / name).stat().st_size)
        if form is not None:
            repository.stored[form] += 1
            if store not in repository.stores[-1:]:
                repository.stores.append(store)
    if all(files.values()):
        target.symlink_to(source.absolute())
        return
    target.mkdir()
    for name, is_regular in files.items():
        if is_regular:
            (target / name).symlink_to((source / name).absolute())
        else:
            unread["special_file"] += 1


def _object_folders(objects: Path, unread: Counter[str]) -> list[Path]:
    """Return all folders of objects that a repository borrows from other repositories (git alternates)."""
    owner = objects.stat().st_uid
    seen = {os.path.realpath(objects)}
    found: list[Path] = []
    waiting = [objects]
    while waiting:
        folder = waiting.pop()
        for line in file_start(folder / "info" / "alternates", MAX_SMALL_FILE).splitlines():
            if not line.strip() or line.startswith(b"#"):
                continue
            other = folder / os.fsdecode(line.replace(b"\0", b""))
            real = os.path.realpath(other)
            if real in seen:
                continue
            seen.add(real)
            if not other.is_dir():
                unread["alternate_missing"] += 1
            # A repository must not choose which folders of other users are read.
            elif other.stat().st_uid != owner or len(found) >= MAX_ALTERNATES:
                unread["alternate_refused"] += 1
            else:
                found.append(other)
                waiting.append(other)
    return found
