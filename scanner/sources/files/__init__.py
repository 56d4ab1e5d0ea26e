"""Fetches files over HTTP and scans them. If several files have the same content, only one is read."""
