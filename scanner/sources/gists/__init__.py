"""The source that polls public gists."""
