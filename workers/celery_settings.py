"""The address of the broker, the only setting of r8scan that celeryconfig.py needs."""

from __future__ import annotations

from scanner.settings import Settings, SettingsError, load_settings


def own_broker_url() -> str:
    """Return the broker's address from the settings of this process.

    Raises:
        SystemExit: A setting is wrong. The message is one line. For other errors, Celery would print a traceback.
    """
    try:
        return broker_url(load_settings())
    except SettingsError as err:
        from workers.logs import last_line

        raise SystemExit(last_line(str(err))) from None


def broker_url(settings: Settings) -> str:
    """Return the broker's address.

    The setting `embedded` means the Redis that `r8scan run` starts, on a socket in the state folder.
    """
    url = settings.redis_url.get_secret_value()
    if url != "embedded":
        return url
    from workers.embedded_redis import socket_path

    return f"redis+socket://{socket_path(settings.state_dir)}"
