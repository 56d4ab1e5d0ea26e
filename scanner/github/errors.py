"""What can go wrong with GitHub, as values to decide by.

GitHubError
├── Unavailable      transient: time-outs, 5xx, connections that break
├── RateLimited      a limit was reached: wait `retry_after` seconds
├── BadCredential    401: the credential is rejected
├── Forbidden        403 that is no limit
├── NotFound         404, 410, 451, 409: gone, private, blocked or empty
└── Malformed        an answer that breaks its protocol or our limits

Messages hold fixed words, hosts and numbers only. What a server wrote is in `detail`, hostile until it is redacted.
"""

from __future__ import annotations


class GitHubError(Exception):
    """`reason` is a word for counts and metrics, `retry_after` seconds or None, `detail` the server's own words.

    Not `asked`: we refused it ourselves, before anything went out; for which budget's sake is in `resource`.
    `is_final`: the same request gets the same answer.
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
    """Transient: it is worth trying again."""


class RateLimited(GitHubError):
    """A primary or secondary limit."""


class BadCredential(GitHubError):
    """The credential is rejected; only an operator can mend it."""


class Forbidden(GitHubError):
    """Not allowed, and no limit."""


class NotFound(GitHubError):
    """There is nothing public to read at this address (any more)."""


class Malformed(GitHubError):
    """The answer cannot be used."""
