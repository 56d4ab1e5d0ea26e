"""Runs jobs that read several items, and drops jobs if too many wait.

Also moves token candidates into the database that were kept in files while the database was unavailable.
"""
