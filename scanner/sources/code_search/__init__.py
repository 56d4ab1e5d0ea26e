"""The source that polls GitHub's code search."""
