"""Reads pushes through the git protocol, the most likely ones to contain a token first."""
