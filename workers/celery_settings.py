"""Computes the broker's address for celeryconfig.py."""

from __future__ import annotations

from scanner.settings import Settings, SettingsError, load_settings


def own_broker_url() -> str:
    """Return the broker's address from this process's settings.

    Raises:
        SystemExit: A setting is wrong. The message is one line.
    """
    try:
        return broker_url(load_settings())
    except SettingsError as err:
        from workers.logs import last_line

        raise SystemExit(last_line(str(err))) from None


def broker_url(settings: Settings) -> str:
    """Return the Redis broker's address. For the setting `embedded`, this is the socket of `r8scan run`."""
    url = settings.redis_url.get_secret_value()
    if url != "embedded":
        return url
    from workers.embedded_redis import socket_path

    return f"redis+socket://{socket_path(settings.state_dir)}"
