"""Reads the packs of a git repository without git, in separate processes."""
