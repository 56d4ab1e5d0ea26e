"""Fetches files over HTTP and scans them."""
