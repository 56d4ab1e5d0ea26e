"""Public gists."""
