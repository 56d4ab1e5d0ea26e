"""Runs jobs that read several items, and drops jobs if too many wait."""
