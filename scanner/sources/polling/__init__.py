"""Polling of sources: claiming a source for one poll, the report of a poll, and the delay after failures."""
