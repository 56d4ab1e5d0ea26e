"""Retries operations after temporary failures, with the library stamina."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import stamina
from stamina.instrumentation import RetryDetails, set_on_retry_hooks

_log = logging.getLogger(__name__)


def tries(
    on: type[Exception] | Callable[[Exception], bool], *, attempts: int, timeout: float | None
) -> Iterator[stamina.Attempt]:
    """Yield one context manager for each attempt, until an attempt succeeds.

    Args:
        on: The exceptions to retry, by class or by a predicate.
        attempts: The maximum number of attempts. The last attempt raises its exception.
        timeout: The seconds after which no further attempt begins. None: no limit.
    """
    yield from stamina.retry_context(
        on=on, attempts=attempts, timeout=timeout, wait_initial=0.2, wait_max=2.0, wait_jitter=0.5
    )


def _log_retry(details: RetryDetails) -> None:
    _log.debug("try %d has failed: %s", details.retry_num, details.caused_by)


set_on_retry_hooks([_log_retry])
