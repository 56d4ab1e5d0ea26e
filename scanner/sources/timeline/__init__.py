"""The source that polls GitHub's public events (the event timeline). It also queues jobs for pushes and scans texts."""
