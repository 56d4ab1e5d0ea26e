"""Scan of all objects in a git repository on disk, and search for the paths and commits of the objects with tokens."""
