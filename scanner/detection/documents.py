"""The types that many packages share: documents, their public places, and the possible tokens found in them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

LFS_POINTER = b"version https://git-lfs.github.com/spec/"
"""The first bytes of a Git LFS pointer: https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md"""
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
    """The public place of a document. Its texts may contain raw tokens until `redacted_place` has replaced them.

    Attributes:
        path: The path in the repository or on this machine.
        commit: The full object id of a commit.
        git_object: The id of the blob, commit or tag that contains the document.
        published_at: When the public could first see the document, in UTC; None if unknown.
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
    """Bytes to scan, and where they were published.

    `refetch_url` is the address in GitHub's API that returns the same text again, or empty if there is none.
    """

    content: bytes
    place: Place
    refetch_url: str = ""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A possible token: its digest, hint and position. It never contains the token itself.

    Attributes:
        digest: 64 lower-case hex digits.
        hint: A few letters of the token, such as `r8_Ab1…xyz9`.
        line: From 1; 0 if unknown.
        column: In bytes, from 1; 0 if unknown.
        encoding: The encodings of the token, outermost first, such as `base64>gzip`.
        container: The path through archives, such as `a.zip!/b/c.txt`, or empty.
    """

    digest: str
    hint: str
    place: Place
    line: int = 0
    column: int = 0
    encoding: str = "plain"
    container: str = ""


def is_lfs_pointer(content: bytes) -> bool:
    """Return whether the content is a Git LFS pointer, which stands for a file that is stored elsewhere."""
    return len(content) < MAX_LFS_POINTER_BYTES and content.startswith(LFS_POINTER)
