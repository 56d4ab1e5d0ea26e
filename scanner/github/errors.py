"""The errors of requests to GitHub.

GitHubError
├── Unavailable      transient: time-outs, 5xx, broken connections
├── RateLimited      a rate limit was reached: wait `retry_after` seconds
├── BadCredential    401: GitHub rejects the credential
├── Forbidden        403 that is not a rate limit
├── NotFound         404, 410, 451, 409: gone, private, blocked or empty
└── Malformed        an answer that violates its protocol or exceeds r8scan's limits
"""

from __future__ import annotations


class GitHubError(Exception):
    """A request to GitHub that failed. The message contains only fixed words, hosts and numbers.

    Attributes:
        reason: The reason as one word, for counters and metrics.
        retry_after: Seconds to wait before the next attempt, or None.
        detail: The server's error message. It may be hostile: redact it before it is shown.
        asked: False if r8scan did not send the request.
        resource: The quota that prevented the request, or "" if the request was sent.
    """

    def __init__(
        self,
        reason: str,
        message: str,
        *,
        retry_after: float | None = None,
        detail: str = "",
        asked: bool = True,
        is_final: bool = False,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.retry_after = retry_after
        self.detail = detail
        self.asked = asked
        self.is_final = is_final
        self.resource = ""


class Unavailable(GitHubError):
    """A temporary failure; a later attempt may succeed."""


class RateLimited(GitHubError):
    """A primary or secondary rate limit was reached."""


class BadCredential(GitHubError):
    """GitHub rejects the credential; an operator has to replace it."""


class Forbidden(GitHubError):
    """GitHub forbids the request. The reason is not a rate limit."""


class NotFound(GitHubError):
    """The address has no public content."""


class Malformed(GitHubError):
    """The answer violates its protocol or exceeds r8scan's limits."""
