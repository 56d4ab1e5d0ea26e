"""Reads pushes through the git protocol. Pushes that are likely to contain a token come first."""
