"""Converts the places where tokens were found to database rows and JSON, and to keys that identify them."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from scanner.detection import Candidate, Place
from scanner.records.columns import storable_text
from scanner.records.models import PlaceColumns

_OBJECT_ID = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")

MAX_TEXT_LENGTH = 4096
"""A row keeps this many characters of a path, URL or name."""


def place_key(place: Place) -> str:
    """Return 64 hex digits that identify a place where a token was found.

    * A file or a wiki page is identified by its repository and path, whatever the commit.
    * A commit or a tag is identified by its repository and its id.
    * The name of a branch or tag is identified by its repository and this name.
    * A repository's description is identified by its repository.
    * Any other place is identified by its URL, and by its repository, path and git object if they are known.
    """
    repository = str(place.repository_id) if place.repository_id is not None else (place.repository or "")
    if place.kind in ("file", "file_name", "wiki_page") and place.path is not None:
        parts = [place.kind, repository, place.path]
    elif place.kind in ("commit", "tag") and (place.commit or place.git_object):
        parts = [place.kind, repository, place.commit or place.git_object or ""]
    elif place.kind == "ref_name":
        parts = [place.kind, repository, place.ref or ""]
    elif place.kind == "repository_description":
        parts = [place.kind, repository]
    else:
        parts = [place.kind, place.url, repository, place.path or "", place.git_object or ""]
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()


def columns_of(candidate: Candidate, source: str) -> dict[str, Any]:
    """Return the values of the columns in `PlaceColumns` for the place of the token candidate."""
    place = candidate.place
    return {
        "kind": place.kind,
        "url": _text(place.url),
        "repository": _text(place.repository),
        "repository_id": place.repository_id,
        "path": _text(place.path),
        "commit": _object_id(place.commit),
        "ref": _text(place.ref),
        "git_object": _object_id(place.git_object),
        "line": candidate.line,
        "column": candidate.column,
        "encoding": _text(candidate.encoding),
        "container": _text(candidate.container),
        "published_at": place.published_at,
        "source": source,
        "place_key": place_key(place),
    }


def candidate_of(row: PlaceColumns, digest: str, hint: str) -> Candidate:
    """Return the token candidate in the database row. This is the inverse of `columns_of`."""
    place = Place(
        kind=row.kind,  # type: ignore[arg-type]  # only columns_of writes it
        url=row.url,
        repository=row.repository,
        repository_id=row.repository_id,
        path=row.path,
        commit=row.commit,
        ref=row.ref,
        git_object=row.git_object,
        published_at=row.published_at,
    )
    return Candidate(digest, hint, place, row.line, row.column, row.encoding, row.container)


def candidate_to_json(candidate: Candidate) -> dict[str, Any]:
    """Return the token candidate as JSON. The JSON contains no raw token."""
    value = dataclasses.asdict(candidate)
    published_at = candidate.place.published_at
    value["place"]["published_at"] = published_at.isoformat() if published_at else None
    return value


def candidate_from_json(value: Mapping[str, Any]) -> Candidate:
    """Return the token candidate from the JSON that `candidate_to_json` returned.

    Raises:
        TypeError, ValueError: The value is other JSON.
    """
    place = dict(value["place"])
    if place["published_at"] is not None:
        place["published_at"] = datetime.fromisoformat(place["published_at"])
    return Candidate(**{**value, "place": Place(**place)})


def _object_id(value: str | None) -> str | None:
    """Return the value if it is a git object id, otherwise None."""
    return value if value is not None and _OBJECT_ID.fullmatch(value) else None


def _text(value: str | None) -> Any:
    if value is None:
        return None
    clean = storable_text(value)
    return clean if len(clean) <= MAX_TEXT_LENGTH else clean[: MAX_TEXT_LENGTH - 1] + "…"
