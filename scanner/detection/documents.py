"""The values that travel through the house: what was read, where it stood, and what may be a token in it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

LFS_POINTER = b"version https://git-lfs.github.com/spec/"
"""How a file begins whose content is elsewhere: https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md"""
MAX_LFS_POINTER_BYTES = 1024

PlaceKind = Literal[
    "file",
    "file_name",
    "commit",
    "tag",
    "ref_name",
    "repository_description",
    "issue",
    "issue_comment",
    "pull_request",
    "commit_comment",
    "review",
    "review_comment",
    "discussion",
    "release",
    "wiki_page",
    "gist",
    "gist_comment",
    "package",
    "submission",
    "local_file",
    "other",
]


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands in public, as an address a person can open.

    A `submission` is no place: somebody gave the token to GitHub, and nobody says where it stood.

    `repository` is `owner/name`; `commit` a full object id; `path` is relative to the repository's root (or the file's
    own path for `local_file`); `published_at` is when the public could first see it (aware, UTC), where known.
    `git_object` is the id of the blob, commit or tag that holds it. Every string may be hostile until it is redacted.
    """

    kind: PlaceKind
    url: str = ""
    repository: str | None = None
    repository_id: int | None = None
    path: str | None = None
    commit: str | None = None
    ref: str | None = None
    git_object: str | None = None
    published_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Document:
    """Bytes to scan and the place they came from.

    `refetch_url`: the API address that serves the same text again, empty where there is none.
    """

    content: bytes
    place: Place
    refetch_url: str = ""


@dataclass(frozen=True, slots=True)
class Candidate:
    """Something that has the form of a token: never the token itself.

    `digest` is 64 lower-case hex digits; `hint` is `r8_Ab1…xyz9`; `line` and `column` count from 1 (0: unknown; column
    in bytes); `encoding` names the encoding it was written in (`plain`, `base64`, …); `container` is the way through
    archives to it (`a.zip!/b/c.txt`), empty for none. `place` holds no raw token.
    """

    digest: str
    hint: str
    place: Place
    line: int = 0
    column: int = 0
    encoding: str = "plain"
    container: str = ""


def is_lfs_pointer(content: bytes) -> bool:
    """Return whether the content only says where the file's real content is."""
    return len(content) < MAX_LFS_POINTER_BYTES and content.startswith(LFS_POINTER)
