"""Sends mails to owners, announcements to gateways, and messages to the operator. It decides nothing about tokens."""
