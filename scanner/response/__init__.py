"""The response to leaks: looks tokens up in the store, disables them, records incidents and queues notifications."""
