"""The source that polls GitHub's public events (the event timeline), and the jobs and texts in the events."""
