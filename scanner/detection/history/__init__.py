"""Scan of all objects in a git repository on disk."""
