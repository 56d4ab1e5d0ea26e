"""Reads a push through the REST API. This is used when the git server answers with an error."""

from __future__ import annotations

from dataclasses import replace

from scanner.detection import Candidate, Document, Place, redact
from scanner.github.client import GitHub
from scanner.github.compare import Comparison, compare, read_singly
from scanner.github.errors import GitHubError, NotFound
from scanner.github.urls import blob_url, commit_url
from scanner.sources.pushes.push import Push, ReadPart, ScanContext

NOT_COMPARED = ("http_406", "http_500")
"""Reasons of errors that mean that a comparison is too large or takes too long:
https://docs.github.com/rest/commits/commits#compare-two-commits
"""


def _compared(github: GitHub, repository: str, before: str, head: str) -> Comparison:
    """Return the changes of the push, as far as the REST API shows them."""
    try:
        return compare(github, repository, before, head)
    except NotFound as err:
        if not before or err.reason != "not_found":
            raise
        # The old commit may be gone after a force push, so read only the new commit.
        comparison = compare(github, repository, "", head)
        comparison.unread["between_commits"] += 1
        return comparison
    except GitHubError as err:
        if not before or err.reason not in NOT_COMPARED:
            raise
        return read_singly(github, repository, before, head)


def read_comparison(github: GitHub, push: Push, before: str, head: str, context: ScanContext) -> ReadPart:
    """Scan what the REST API shows between two commits.

    Args:
        before: The id of the old commit. "": read `head` alone.

    Returns:
        The token candidates with their places. `unread` also counts what the comparison does not show.

    Raises:
        GitHubError: The comparison could not be read.
    """
    comparison = _compared(github, push.repository, before, head)
    part = ReadPart(unread=comparison.unread)
    part.unread["read_by_rest"] += 1
    place = Place(
        "file",
        repository=redact(push.repository),
        repository_id=push.repository_id,
        ref=push.ref or None,
        published_at=push.published_at,
    )

    def scan(text: str, place: Place) -> list[Candidate]:
        result = context.detector.scan(Document(text.encode("utf-8", "surrogatepass"), place), context.budget)
        part.unread.update(result.unread)
        return context.limits.take(result.candidates)

    for changed in comparison.files:
        file_place = replace(place, path=changed.path, commit=changed.commit)
        name_url = commit_url(github.web_url, push.repository, changed.commit)
        names = scan(changed.path, replace(file_place, kind="file_name", url=name_url))
        part.candidates.extend(replace(candidate, line=0) for candidate in names)
        for candidate in scan(changed.text, file_place):
            line = changed.lines[candidate.line - 1] if 0 < candidate.line <= len(changed.lines) else 0
            url = redact(blob_url(github.web_url, push.repository, changed.commit, changed.path, line))
            part.candidates.append(replace(candidate, line=line, place=replace(candidate.place, url=url)))
    for sha, message in comparison.messages:
        url = commit_url(github.web_url, push.repository, sha)
        part.candidates.extend(scan(message, replace(place, kind="commit", commit=sha, url=url)))
    return part
