"""Reads the event archive: hourly files of GitHub's public events."""
