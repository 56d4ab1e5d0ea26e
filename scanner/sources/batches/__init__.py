"""Runs jobs that read several items, drops jobs above a limit, and stores what was kept while the database was down."""
