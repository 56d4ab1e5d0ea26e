"""The settings: one object that is read once at start, from R8SCAN_* variables, `.env` and files of secrets.

Operators rely on the names of the settings, so the names must not change. A forged `.env` could send every credential
to another address, so it is read only if no other user could have written it.
"""

from scanner.settings.errors import SettingsError
from scanner.settings.fields import GITHUB, KNOWN_SOURCES, Settings
from scanner.settings.loading import dotenv_names, load_settings
from scanner.settings.names import PREFIX, SECRETS

__all__ = ["GITHUB", "KNOWN_SOURCES", "PREFIX", "SECRETS", "Settings", "SettingsError", "dotenv_names", "load_settings"]
