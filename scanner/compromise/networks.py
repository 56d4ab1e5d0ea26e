"""Addresses become network prefixes at once; lists of networks are matched while the address is still whole."""

from __future__ import annotations

import ipaddress
from collections import defaultdict
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

IPV4_PREFIX = 24
IPV6_PREFIX = 48
IPV6_CUSTOMER_PREFIX = 64
"""One customer of a provider holds a whole /64, so single IPv6 addresses are never counted."""
MAX_ADDRESS_LENGTH = 64
MAX_LINE_LENGTH = 1024
MAX_NETWORKS = 500_000

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class BadNetworks(ValueError):
    """Why a list of networks cannot be used: one line."""


def parse_address(text: str) -> Address | None:
    """The address, None for what is none. IPv4 that is written as IPv6 is IPv4."""
    if len(text) > MAX_ADDRESS_LENGTH:
        return None
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def prefix_of(address: Address) -> str:
    """The /24 (IPv4) or /48 (IPv6) that the address lies in: what is kept of it."""
    return _masked(address, IPV4_PREFIX if address.version == 4 else IPV6_PREFIX)


def _masked(address: Address, bits: int) -> str:
    shift = address.max_prefixlen - bits
    return f"{type(address)(int(address) >> shift << shift)}/{bits}"


def rate_keys(client: str) -> tuple[str, ...]:
    """Return the networks whose requests are counted together with this client's, the narrowest first.

    IPv4 clients are counted by /24. IPv6 clients are counted by /64, which is what one customer has at least, and by
    /48, which is what one customer may have at most. Text that is no address is counted under one common key.
    """
    address = parse_address(client)
    if address is None:
        return ("unknown",)
    if address.version == 4:
        return (_masked(address, IPV4_PREFIX),)
    return (_masked(address, IPV6_CUSTOMER_PREFIX), _masked(address, IPV6_PREFIX))


def connection_keys(client: str) -> tuple[str, str]:
    """Return the address (IPv4 /32, IPv6 /64) and the network (/24, /48) under which a connection is counted."""
    address = parse_address(client)
    if address is None:
        return ("unknown", "unknown")
    narrow = 32 if address.version == 4 else IPV6_CUSTOMER_PREFIX
    return (_masked(address, narrow), prefix_of(address))


class NetworkList:
    """Many networks, asked for each record: one set look-up for each length of prefix that occurs."""

    def __init__(self, networks: Iterable[str] = ()) -> None:
        """BadNetworks names the first line (from 1) that is no network in CIDR notation."""
        starts: dict[tuple[int, int], set[int]] = defaultdict(set)
        for number, line in enumerate(networks, 1):
            if number > MAX_NETWORKS:
                raise BadNetworks(f"has more than {MAX_NETWORKS} lines")
            text = line.partition("#")[0].strip()
            if text:
                version, bits, start = _parsed(text, number)
                starts[version, bits].add(start)
        self._starts = sorted(starts.items())

    def match(self, address: Address) -> str | None:
        """The listed network that the address lies in, in CIDR notation; the widest of several."""
        value, longest = int(address), address.max_prefixlen
        for (version, bits), starts in self._starts:
            start = value >> (longest - bits) << (longest - bits)
            if version == address.version and start in starts:
                return f"{type(address)(start)}/{bits}"
        return None


def load(path: Path | None) -> NetworkList:
    """The list in the file, read again when the file has changed; an empty one for None. BadNetworks."""
    if path is None:
        return _EMPTY
    try:
        return _load(path, path.stat().st_mtime_ns)
    except OSError as err:
        raise BadNetworks(f"cannot be read ({err.strerror})") from err


_EMPTY = NetworkList()


@lru_cache(maxsize=1)
def _load(path: Path, _: int) -> NetworkList:
    with path.open(encoding="ascii", errors="replace") as file:
        return NetworkList(iter(lambda: file.readline(MAX_LINE_LENGTH), ""))


def _parsed(text: str, number: int) -> tuple[int, int, int]:
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise BadNetworks(f"line {number} is not a network in CIDR notation, such as 203.0.113.0/24") from None
    return network.version, network.prefixlen, int(network.network_address)
