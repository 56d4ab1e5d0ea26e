"""Rescans of repositories, owners, gists and hours of the event archive. Operators request them."""
