"""Reading of a push by the REST API's comparison: the fallback if the git server answers with an error."""

from __future__ import annotations

from dataclasses import replace

from scanner.detection import Detector, Document, Place, redact
from scanner.github.client import GitHub
from scanner.github.compare import Comparison, compare, read_singly
from scanner.github.errors import GitHubError, NotFound
from scanner.github.urls import blob_url, commit_url
from scanner.sources.pushes.push import Push, PushReading

NOT_COMPARED = ("http_406", "http_500")
"""The difference is too large, or takes too long: https://docs.github.com/rest/commits/commits#compare-two-commits"""


def _compared(github: GitHub, repository: str, before: str, head: str) -> Comparison:
    """Return what the REST API shows of the push: the comparison, the new commit alone, or single commits."""
    try:
        return compare(github, repository, before, head)
    except NotFound as err:
        if not before or err.reason != "not_found":
            raise
        # After a force push, the old commit may be gone. Read only the new commit.
        comparison = compare(github, repository, "", head)
        comparison.unread["between_commits"] += 1
        return comparison
    except GitHubError as err:
        if not before or err.reason not in NOT_COMPARED:
            raise
        return read_singly(github, repository, before, head)


def read_comparison(
    github: GitHub, push: Push, before: str, head: str, detector: Detector, reading: PushReading
) -> None:
    """Scan what the REST API shows between two commits, and add it to the reading. Raises GitHubError.

    Args:
        github: The client.
        push: The push.
        before: The old commit. Empty: read `head` alone.
        head: The new commit.
        detector: Scans.
        reading: The result to add to. It also counts what the comparison does not show.
    """
    comparison = _compared(github, push.repository, before, head)
    reading.unread.update(comparison.unread)
    reading.unread["read_by_rest"] += 1
    place = Place(
        "file",
        repository=redact(push.repository),
        repository_id=push.repository_id,
        ref=push.ref or None,
        published_at=push.published_at,
    )
    for changed in comparison.files:
        file_place = replace(place, path=changed.path, commit=changed.commit)
        name_url = commit_url(github.web_url, push.repository, changed.commit)
        name_place = replace(file_place, kind="file_name", url=name_url)
        named = detector.scan(Document(changed.path.encode("utf-8", "surrogatepass"), name_place), reading.budget)
        names = reading.limits.take(named.candidates)
        reading.candidates.extend(replace(candidate, line=0) for candidate in names)
        reading.unread.update(named.unread)
        result = detector.scan(Document(changed.text.encode("utf-8", "surrogatepass"), file_place), reading.budget)
        reading.unread.update(result.unread)
        for candidate in reading.limits.take(result.candidates):
            line = changed.lines[candidate.line - 1] if 0 < candidate.line <= len(changed.lines) else 0
            url = redact(blob_url(github.web_url, push.repository, changed.commit, changed.path, line))
            reading.candidates.append(replace(candidate, line=line, place=replace(candidate.place, url=url)))
    for sha, message in comparison.messages:
        url = commit_url(github.web_url, push.repository, sha)
        commit_place = replace(place, kind="commit", commit=sha, url=url)
        result = detector.scan(Document(message.encode("utf-8", "surrogatepass"), commit_place), reading.budget)
        reading.unread.update(result.unread)
        reading.candidates.extend(reading.limits.take(result.candidates))
