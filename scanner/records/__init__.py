"""Database access: tables, leases (time-limited claims of rows), jobs, the outbox of mails, and the audit."""
