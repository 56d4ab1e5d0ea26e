"""Checks for misspelt names of settings, and tells where a setting's value comes from."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable

PREFIX = "R8SCAN_"
SECRETS = (
    "DATABASE_URL",
    "REDIS_URL",
    "GITHUB_TOKEN",
    "GITHUB_APP_PRIVATE_KEY",
    "TOKEN_STORE_SECRET",
    "SMTP_URL",
    "REPORT_KEY",
    "ANNOUNCE_REDIS_URL",
    "ANNOUNCE_WEBHOOK_SECRET",
    "GATEWAY_KEY",
    "METRICS_KEY",
    "OPERATOR_WEBHOOK_SECRET",
    "OPERATOR_SLACK_URL",
    "CONSOLE_PASSWORD_HASH",
    "OIDC_CLIENT_SECRET",
    "CANARY_GITHUB_TOKEN",
    "SENTRY_DSN",
)
"""Secrets that may also be given by the name of a file that contains them: R8SCAN_<NAME>_FILE."""


def misspelt(names: Iterable[str], known: Collection[str], prefix: str) -> str | None:
    """Return an error message if a name with the prefix of settings is not a setting, otherwise None.

    Args:
        known: Names of settings, in capitals.
    """
    for name in sorted(name.upper() for name in names):
        if not name.startswith(prefix) or name in known:
            continue
        close = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
        advice = f"did you mean {close[0]}?" if close else "remove it; docs/settings.md lists all settings"
        return f"{name} is not a setting: {advice}"
    return None


def origin(name: str, environment: Collection[str], dotenv: Collection[str], *, has_file: bool) -> str:
    """Return where a setting's value comes from: "environment", ".env", "default", or its *_FILE variable.

    Args:
        name: The name of the setting's variable, in capitals.
        environment: The names of the environment's variables, in capitals.
        dotenv: The names of the variables in `.env`, in capitals.
        has_file: Whether the setting can also be read from a file.
    """
    file = f"{name}_FILE"
    for names, place in ((environment, "environment"), (dotenv, ".env")):
        if name in names:
            return place
        if has_file and file in names:
            return f"{file} ({place})"
    if name == f"{PREFIX}GITHUB_TOKEN":
        for names, place in ((environment, "environment"), (dotenv, ".env")):
            if "GITHUB_TOKEN" in names:
                return f"GITHUB_TOKEN ({place})"
    return "default"
