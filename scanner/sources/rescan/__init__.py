"""Rescans of repositories, owners, gists and archived hours, in steps."""
