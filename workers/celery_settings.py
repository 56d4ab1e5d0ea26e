"""Where the broker is: what celeryconfig.py needs of our own settings, and nothing else."""

from __future__ import annotations

from scanner.settings import SettingsError, load_settings


def broker_url() -> str:
    """The broker's address. `embedded` is the Redis of `r8scan run`, on a socket in the state folder.

    SystemExit with one line when a setting is wrong, since Celery would print a traceback.
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
