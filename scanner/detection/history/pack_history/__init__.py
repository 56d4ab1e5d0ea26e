"""Reads the packs of a git repository without git, in separate processes.

Each object is built from its deltas only once.
"""
