"""Fetches files over HTTP and scans them. Of several files with the same content, only one is read."""
