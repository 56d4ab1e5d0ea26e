"""Computes the broker's address for celeryconfig.py."""

from __future__ import annotations

from scanner.settings import Settings, SettingsError, load_settings


def own_broker_url() -> str:
    """Return the broker's address from this process's settings.

    Raises:
        SystemExit: A setting is wrong. The exception has a message of one line, because Celery would print a traceback
            for any other exception.
    """
    try:
        return broker_url(load_settings())
    except SettingsError as err:
        from workers.logs import last_line

        raise SystemExit(last_line(str(err))) from None


def broker_url(settings: Settings) -> str:
    """Return the address of the Redis broker.

    If the setting is `embedded`, return the address of the socket of the Redis server that `r8scan run` starts.
    """
    url = settings.redis_url.get_secret_value()
    if url != "embedded":
        return url
    from workers.embedded_redis import socket_path

    return f"redis+socket://{socket_path(settings.state_dir)}"
