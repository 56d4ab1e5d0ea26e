"""The settings, read once at start from R8SCAN_* variables, `.env` and files of secrets."""

from scanner.settings.errors import SettingsError
from scanner.settings.fields import GITHUB, KNOWN_SOURCES, Settings
from scanner.settings.loading import dotenv_names, load_settings
from scanner.settings.names import PREFIX, SECRETS

__all__ = ["GITHUB", "KNOWN_SOURCES", "PREFIX", "SECRETS", "Settings", "SettingsError", "dotenv_names", "load_settings"]
