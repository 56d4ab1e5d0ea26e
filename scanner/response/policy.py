"""What the operator decided: how to respond, and whom to tell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from scanner.response.store_access import TRANSACTIONAL, StoreAccess


@dataclass(frozen=True, slots=True)
class Policy:
    """What the operator decided: how to respond and whom to tell. `mail_window` in seconds.

    `access`: how responses use the token store (see `access_to`). `mail_already_disabled`: tell owners also of tokens
    that they have disabled themselves, but that still stand in public. `announce`: the channels by which gateways are
    told to forget what they cached.
    """

    enforce: Literal["disable", "observe"] = "disable"
    operator_email: str | None = None
    mail_window: float = 10
    mail_domain: str = "localhost"
    access: StoreAccess = TRANSACTIONAL
    mail_already_disabled: bool = False
    announce: tuple[str, ...] = ()
