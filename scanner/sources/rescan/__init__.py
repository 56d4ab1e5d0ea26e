"""Rescans, which an operator requests, of repositories, owners, gists and hours of the event archive, in steps."""
