"""The heart: from candidates to disabled tokens, incidents and notifications."""
