"""The public event timeline: pages of events, the jobs that they become, and the texts in them."""
