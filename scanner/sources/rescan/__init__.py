"""Rescans of repositories, owners, gists and pushes, by steps."""
