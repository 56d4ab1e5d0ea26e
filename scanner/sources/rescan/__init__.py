"""Rescans that operators request: of repositories, owners, gists and hours of the event archive."""
