"""The public event timeline: polls of its pages, the jobs for the events, and the texts in the events."""
