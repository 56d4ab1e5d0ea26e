"""The sending of mails to owners, announcements to API gateways, and messages to the operator.

This package only sends. It makes no decisions about tokens.
"""
