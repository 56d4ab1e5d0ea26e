"""Database access: tables, leases, jobs, the outbox and the audit.

This package makes no decision about tokens or incidents.
"""
