"""Readers of files that contain other files or compressed data. The module `recognition` chooses the reader."""
