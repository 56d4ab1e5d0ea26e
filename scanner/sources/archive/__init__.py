"""Reads the event archive: hourly files of GitHub's public events, for events that the polls have missed."""
