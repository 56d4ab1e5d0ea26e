"""Sends mails to owners, announcements to API gateways, and messages to the operator.

This package makes no decisions about tokens.
"""
