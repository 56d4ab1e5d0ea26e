"""Runs jobs that read several items, and drops jobs if too many wait.

While the database is unavailable, token candidates are kept in files. This package later moves them into the database.
"""
