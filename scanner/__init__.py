"""The parts of r8scan that find leaked API tokens and respond to them.

They do not use Celery, mails or the command line.
"""

__version__ = "0.1.0"
