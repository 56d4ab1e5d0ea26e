"""Properties of simulated pushes, and how frequent they are among all pushes and among pushes with a leak.

The frequencies are assumptions.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

PUSHES_PER_SECOND = 70
NEW_PER_SECOND = 230 / 60
CUSTOMERS = 200
LANGUAGES = ("Python", "JavaScript", "TypeScript", "Java", "C++", "HTML", "Rust", "PHP", None)

# Of all pushes, the shares that are made by bots, go to forks, go to repositories of the vendor's customers, and go to
# repositories that mention the vendor.
MACHINE_SHARE, FORK_SHARE, CUSTOMER_SHARE, VENDOR_SHARE = 0.25, 0.15, 0.005, 0.0005
# Of the pushes that leak a token, the shares that are the first push to a repository, go to repositories of customers,
# go to repositories that mention the vendor, and are made by bots. The first share is 45 of 85 known leaks
# (docs/coverage/inputs.toml).
LEAK_NEW_SHARE, LEAK_CUSTOMER_SHARE, LEAK_VENDOR_SHARE, LEAK_MACHINE_SHARE = 0.53, 0.6, 0.25, 0.02


@dataclass(frozen=True)
class Shares:
    """For each property, the share of pushes that have it, from 0 to 1."""

    machine: float
    new: float
    customer: float
    vendor: float


ORDINARY = Shares(MACHINE_SHARE, NEW_PER_SECOND / PUSHES_PER_SECOND, CUSTOMER_SHARE, VENDOR_SHARE)
LEAKING = Shares(LEAK_MACHINE_SHARE, LEAK_NEW_SHARE, LEAK_CUSTOMER_SHARE, LEAK_VENDOR_SHARE)


@dataclass(frozen=True)
class Traits:
    """The properties of a push that are known before it is read.

    `account` is the vendor's account with the same name as the repository's owner, or None.
    """

    owner: str
    account: str | None
    is_new: bool
    is_fork: bool
    size_kb: int
    language: str | None
    mentions_vendor: bool


def traits_of(number: int, chance: random.Random, shares: Shares) -> Traits:
    """Return random properties for push `number`, with the probabilities in `shares`."""
    is_customer = chance.random() < shares.customer
    account = f"customer{chance.randrange(CUSTOMERS)}" if is_customer else None
    owner = account or f"user{number}"
    return Traits(
        owner=f"{owner}-bot" if chance.random() < shares.machine and account is None else owner,
        account=account,
        is_new=chance.random() < shares.new,
        is_fork=chance.random() < FORK_SHARE,
        size_kb=int(chance.lognormvariate(6, 3)),
        language=chance.choice(LANGUAGES),
        mentions_vendor=chance.random() < shares.vendor,
    )
