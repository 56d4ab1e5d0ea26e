"""The source that polls GitHub's public events (the event timeline)."""
