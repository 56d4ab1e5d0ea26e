"""Sample mails by name, and a sender, for tests of rendered mails."""

from __future__ import annotations

from notifications.email.render import MailIdentity
from notifications.email.samples import samples

SAMPLES = dict(samples())
IDENTITY = MailIdentity(
    sender="Vendor Security <security@vendor.example>",
    vendor_name="Vendor",
    account_tokens_url="https://vendor.example/tokens",
    usage_url="https://vendor.example/usage",
    support_contact="help@vendor.example",
)
