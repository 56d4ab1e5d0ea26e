"""Creates and sends mails."""
