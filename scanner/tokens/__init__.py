"""The token store: which digests are tokens, whose, and how one is disabled."""
