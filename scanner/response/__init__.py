"""The response: look candidates up in the token store, disable tokens, record incidents and queue notifications."""
