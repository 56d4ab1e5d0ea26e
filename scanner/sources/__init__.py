"""The sources of public content that are polled for tokens, for example GitHub's events."""
