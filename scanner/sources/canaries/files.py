"""Plants canaries (test tokens) in the queue of files."""

from __future__ import annotations

from scanner.detection.digests import Digester
from scanner.github.errors import Unavailable
from scanner.records.database import Database
from scanner.response.policy import Policy
from scanner.sources.canaries.making import make
from scanner.tokens.protocol import StoreUnavailable

_SCHEME = "canary:"


def address(canary_id: int) -> str:
    """Return the made-up address that stands for this canary (test token) in a `files` job."""
    return f"{_SCHEME}{canary_id}"


def is_canary(url: str) -> bool:
    """Return whether an address in a `files` job stands for a canary (test token)."""
    return url.startswith(_SCHEME)


def content(database: Database, policy: Policy, digester: Digester, url: str) -> bytes | None:
    """Make the token of a canary, and return a file that contains it. Return None if the canary has ended.

    Raises:
        Unavailable: The token store refuses the token. The file is retried.
    """
    try:
        made = make(database, policy, digester, int(url.removeprefix(_SCHEME)))
    except StoreUnavailable as err:
        raise Unavailable("canary_not_registered", str(err)) from err
    return None if made is None else made.text
