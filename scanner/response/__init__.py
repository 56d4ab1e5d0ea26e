"""The response to leaks: look tokens up in the store, disable them, record incidents and queue notifications."""
