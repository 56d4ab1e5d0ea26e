"""Readers of files that contain other files or compressed data. `recognition` chooses the reader of a content."""
