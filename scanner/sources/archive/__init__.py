"""Reads the event archive: hourly files of GitHub's public events. They fill gaps of the event timeline."""
