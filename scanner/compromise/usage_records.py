"""Parses usage records. Each line of JSON describes one use of a token."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from scanner.compromise.networks import NetworkList, parse_address, prefix_of
from scanner.compromise.reports import BadReport, bounded, subject_of
from scanner.detection import Digester
from scanner.detection.redaction import SharedRedaction

MAX_LINE_LENGTH = 8 * 1024
MAX_AGENT_LENGTH = 120
MAX_KNOWN_AGENTS = 1_000
"""A RecordReader remembers the redacted form of at most this many user agents."""
MAX_AGE = timedelta(days=7)
MAX_FUTURE = timedelta(minutes=10)
"""How far the clock of a reporter may be ahead of ours."""

MAX_SET_SIZES = {"networks": 64, "countries": 32, "agents": 16, "listed_networks": 16}
"""The maximum number of different values that are kept for one hour of a token's usage."""

_COUNTRY = re.compile(r"[A-Za-z0-9]{2}")


class BadRecord(ValueError):
    """Raised if a line is not a usage record. The message completes a sentence that begins with "line 7"."""


@dataclass(frozen=True, slots=True)
class UsageRecord:
    """One use of a token. `network`, `country`, `agent` and `listed` are "" if there is none.

    Attributes:
        hour: the start of the hour (UTC) of the use.
        network: the /24 or /48 network of the client.
        country: the two-letter code of the client's country.
        listed: the network on the operator's list that contains the client's address.
    """

    digest: str
    hour: datetime
    network: str = ""
    country: str = ""
    agent: str = ""
    listed: str = ""


@dataclass(slots=True)
class HourSum:
    """The usage of one token in one hour. `unkept` counts the values that were left out because a set was full."""

    count: int = 0
    listed: int = 0
    sets: dict[str, set[str]] = field(default_factory=lambda: {name: set() for name in MAX_SET_SIZES})
    unkept: Counter[str] = field(default_factory=Counter)

    def add(self, record: UsageRecord) -> None:
        self.count += 1
        self.listed += bool(record.listed)
        self.keep("networks", (record.network,))
        self.keep("countries", (record.country,))
        self.keep("agents", (record.agent,))
        self.keep("listed_networks", (record.listed,))

    def keep(self, name: str, values: Iterable[str]) -> None:
        """Add values to the set with this name, up to its maximum size."""
        kept = self.sets[name]
        for value in values:
            if not value or value in kept:
                continue
            if len(kept) < MAX_SET_SIZES[name]:
                kept.add(value)
            else:
                self.unkept[name] += 1


class RecordReader:
    """A fast parser of usage records. Use one for each batch.

    Args:
        now: The current time, with a time zone. Records from more than `MAX_AGE` before or more than `MAX_FUTURE` after
            it are refused.
    """

    def __init__(self, digester: Digester, networks: NetworkList, now: datetime) -> None:
        self._digester = digester
        self._networks = networks
        self._earliest = now - MAX_AGE
        self._latest = now + MAX_FUTURE
        self._redaction = SharedRedaction()
        self._agents: dict[str, str] = {}

    def read(self, line: str) -> UsageRecord:
        """Return the usage record in a line of JSON.

        Raises:
            BadRecord: The line is malformed, or its time is too old or in the future.
        """
        if len(line) > MAX_LINE_LENGTH:
            raise BadRecord("is longer than a record may be")
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            raise BadRecord("is not JSON") from None
        if not isinstance(value, dict):
            raise BadRecord("is not a JSON object")
        network, listed = self._network(value)
        return UsageRecord(
            digest=self._digest(value),
            hour=self._hour(value.get("time")),
            network=network,
            country=_country(_text(value, "country")),
            agent=self._agent(_text(value, "user_agent")),
            listed=listed,
        )

    def _agent(self, given: str) -> str:
        agent = self._agents.get(given)
        if agent is None:
            agent = bounded(given, MAX_AGENT_LENGTH, self._redaction.redact)
            if len(self._agents) < MAX_KNOWN_AGENTS:
                self._agents[given] = agent
        return agent

    def _digest(self, value: Mapping[str, Any]) -> str:
        given = [value[name] for name in ("digest", "token") if value.get(name) is not None]
        if len(given) != 1 or not isinstance(given[0], str):
            raise BadRecord("names no token: give digest or token")
        try:
            return subject_of(given[0], self._digester).digest
        except BadReport as err:
            raise BadRecord(f"names something that {err}") from None

    def _hour(self, value: Any) -> datetime:
        try:
            if isinstance(value, str):
                time = datetime.fromisoformat(value)
            elif isinstance(value, int | float) and not isinstance(value, bool):
                time = datetime.fromtimestamp(value, UTC)
            else:
                raise BadRecord("has no time: give ISO 8601 with a zone, or seconds since 1970")
            if time.tzinfo is None:
                raise BadRecord("has a time without a zone")
            time = time.astimezone(UTC)
        except (ValueError, OverflowError, OSError) as err:
            raise err if isinstance(err, BadRecord) else BadRecord("has a time that is not valid") from None
        if time < self._earliest:
            raise BadRecord(f"is older than {MAX_AGE.days} days")
        if time > self._latest:
            raise BadRecord("is from the future")
        return time.replace(minute=0, second=0, microsecond=0)

    def _network(self, value: Mapping[str, Any]) -> tuple[str, str]:
        text = _text(value, "ip")
        if not text:
            return "", ""
        address = parse_address(text)
        if address is None:
            raise BadRecord("has an ip that is not an IP address")
        return prefix_of(address), self._networks.match(address) or ""


def _text(value: Mapping[str, Any], name: str) -> str:
    text = value.get(name)
    if text is None:
        return ""
    if not isinstance(text, str):
        raise BadRecord(f"has a {name} that is not text")
    return text


def _country(text: str) -> str:
    if text and not _COUNTRY.fullmatch(text):
        raise BadRecord("has a country that is not two letters")
    return text.upper()
