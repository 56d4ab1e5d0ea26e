"""Polling of sources: leased polls, their reports, and the backoff after failures."""
