"""The parts of r8scan that find leaked API tokens and respond to them.

They do not use Celery, the code that sends mails, or the command line.
"""

__version__ = "0.1.0"
