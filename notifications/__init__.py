"""Mails to owners, announcements to gateways and messages to the operator. Reads records and decides nothing."""
