"""The address of the broker, which is all that celeryconfig.py needs from the settings."""

from __future__ import annotations

from scanner.settings import SettingsError, load_settings


def broker_url() -> str:
    """Return the address of the broker. `embedded` means the Redis of `r8scan run`, on a socket in the state folder.

    Raises:
        SystemExit: a setting is wrong. The message is one line; Celery would print a traceback.
    """
    try:
        settings = load_settings()
    except SettingsError as err:
        raise SystemExit(f"r8scan: {err}") from None
    url = settings.redis_url.get_secret_value()
    if url != "embedded":
        return url
    from workers.embedded_redis import socket_path

    return f"redis+socket://{socket_path(settings.state_dir)}"
