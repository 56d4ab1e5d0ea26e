"""The response to leaks: looks up and disables tokens, records incidents, and queues notifications."""
