"""The parts of r8scan that find leaked API tokens and respond to them.

They do not use Celery, the code that sends mails, or the command line.
"""

from scanner.absent_modules import hide_httpx_command

__version__ = "0.1.0"

hide_httpx_command()  # before any module imports httpx
