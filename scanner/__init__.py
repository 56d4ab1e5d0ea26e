"""Find leaked API tokens, decide, respond. Knows nothing of Celery, of mails or of the command line."""

__version__ = "0.1.0"
