"""The operator's policy: how r8scan responds to leaked tokens."""

from __future__ import annotations

from dataclasses import dataclass

from scanner.records.states import Channel, EnforceMode
from scanner.response.store_access import TRANSACTIONAL, StoreAccess


@dataclass(frozen=True, slots=True)
class Policy:
    """The operator's policy: how r8scan responds to leaked tokens, and whom it notifies.

    Attributes:
        enforce: whether to disable tokens or only to notify the operator.
        operator_email: the operator's address, or None.
        mail_window: the seconds for which a mail waits in order to collect further incidents.
        access: looks up and disables tokens; see `access_to`.
        mail_already_disabled: whether an owner also gets a mail if the token was disabled before r8scan found it.
        announce: the channels over which disabled tokens are announced to API gateways.
    """

    enforce: EnforceMode = EnforceMode.DISABLE
    operator_email: str | None = None
    mail_window: float = 10
    mail_domain: str = "localhost"
    access: StoreAccess = TRANSACTIONAL
    mail_already_disabled: bool = False
    announce: tuple[Channel, ...] = ()
