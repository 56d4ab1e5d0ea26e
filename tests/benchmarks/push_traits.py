"""The traits of simulated pushes, which decide their ranking: their frequency among all pushes and among leaks.

The figures are assumptions. They are not taken from the weights of `scanner.sources.pushes.likelihood`.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

PUSHES_PER_SECOND = 70
NEW_PER_SECOND = 230 / 60
CUSTOMERS = 200
LANGUAGES = ("Python", "JavaScript", "TypeScript", "Java", "C++", "HTML", "Rust", "PHP", None)

# Shares of all pushes.
MACHINE_SHARE, FORK_SHARE, CUSTOMER_SHARE, VENDOR_SHARE = 0.25, 0.15, 0.005, 0.0005
# Shares of pushes that leak. A token has an account, and accounts are made by signing in with GitHub, so most owners
# have its name; first pushes are 45 of 85 leaks by push (docs/coverage/inputs.toml).
LEAK_NEW_SHARE, LEAK_CUSTOMER_SHARE, LEAK_VENDOR_SHARE, LEAK_MACHINE_SHARE = 0.53, 0.6, 0.25, 0.02


@dataclass(frozen=True)
class Shares:
    """The frequency of each trait in a group of pushes."""

    machine: float
    new: float
    customer: float
    vendor: float


ORDINARY = Shares(MACHINE_SHARE, NEW_PER_SECOND / PUSHES_PER_SECOND, CUSTOMER_SHARE, VENDOR_SHARE)
LEAKING = Shares(LEAK_MACHINE_SHARE, LEAK_NEW_SHARE, LEAK_CUSTOMER_SHARE, LEAK_VENDOR_SHARE)


@dataclass(frozen=True)
class Traits:
    """The properties of one push that are known before it is read.

    `account`: the owner has the name of this account.
    """

    owner: str
    account: str | None
    is_new: bool
    is_fork: bool
    size_kb: int
    language: str | None
    mentions_vendor: bool


def traits_of(number: int, chance: random.Random, shares: Shares) -> Traits:
    """Return the traits of push `number`, drawn at random by their frequency."""
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
