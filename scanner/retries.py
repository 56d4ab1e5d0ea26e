"""Trying again, by stamina, what fails for a moment.

Each further try is a debug line and no more: in an outage they would be most of the log, and what a call comes to is
told by whoever made it. stamina's own hook would print to standard output, past our log and its redaction.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import stamina
from stamina.instrumentation import RetryDetails, set_on_retry_hooks

_log = logging.getLogger(__name__)


def tries(
    on: type[Exception] | Callable[[Exception], bool], *, attempts: int, timeout: float | None
) -> Iterator[stamina.Attempt]:
    """Contexts to try in, until one holds or `attempts` have not; after `timeout` seconds none is begun."""
    yield from stamina.retry_context(
        on=on, attempts=attempts, timeout=timeout, wait_initial=0.2, wait_max=2.0, wait_jitter=0.5
    )


def _tell(details: RetryDetails) -> None:
    _log.debug("try %d has failed: %s", details.retry_num, details.caused_by)


set_on_retry_hooks([_tell])
