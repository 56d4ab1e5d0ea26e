"""Runs jobs that read several items, and drops jobs if too many wait.

Also stores candidates in the database that were kept in files while it was unavailable.
"""
