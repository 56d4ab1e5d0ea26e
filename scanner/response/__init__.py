"""The response to leaks: looks tokens up, disables them, records incidents and queues notifications."""
