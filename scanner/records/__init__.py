"""Database access: tables, leases, jobs, the outbox and the audit. Makes no decision about tokens or incidents."""
