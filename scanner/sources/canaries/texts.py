"""Plants canaries (test tokens) in the texts of public events."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime

from scanner.detection.digests import Digester
from scanner.records import canaries
from scanner.records.database import Database, is_unavailable
from scanner.records.states import CanaryWay
from scanner.response.policy import Policy
from scanner.sources.canaries.making import make
from scanner.sources.timeline.events import Event
from scanner.tokens.protocol import StoreUnavailable

REPOSITORY = "r8scan/canary"
"""The repository that the events with canaries name. It need not exist."""

_log = logging.getLogger(__name__)


def events(database: Database, policy: Policy, digester: Digester) -> Sequence[Event]:
    """For each waiting canary (test token), return one event with a comment that contains the token.

    If the database or the token store becomes unavailable, return the events made so far.
    """
    found: list[Event] = []
    try:
        with database.read() as session:
            ids = canaries.waiting(session, CanaryWay.TEXTS)
        for canary_id in ids:
            content = make(database, policy, digester, canary_id)
            if content is not None:
                comment = {"comment": {"body": content.text.decode("ascii")}}
                found.append(Event("", "IssueCommentEvent", REPOSITORY, None, datetime.now(UTC), comment))
    except StoreUnavailable as err:
        _log.error("a canary could not be made known to the token store: %s; the next poll tries again", err)
    except Exception as err:
        if not is_unavailable(err):
            raise
        _log.error("no canary was read: the database is unavailable")
    return found
