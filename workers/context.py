"""The objects that a process of the service needs, such as the settings and the database. Each is created at first
use. The modules that it needs are imported then too, because no process needs all of them.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from sqlalchemy import event

from scanner.records import versions
from scanner.records.database import Database
from scanner.records.outbox import domain_of
from scanner.records.states import Channel
from scanner.response.policy import Policy
from scanner.response.store_access import access_to
from scanner.settings import Settings, SettingsError, load_settings
from scanner.tokens.sql import SqlStore
from workers import observing, outage

if TYPE_CHECKING:
    from notifications.email.logo import Logo
    from notifications.email.render import MailIdentity
    from notifications.email.transport import MailTransport
    from notifications.gateways import AnnouncementChannel
    from notifications.operator_channels import OperatorChannel
    from scanner.detection import Detector
    from scanner.detection.git.packs import PackLimits
    from scanner.github.client import App, GitHub
    from scanner.tokens.http import HttpStore

MAX_CONNECTIONS = 6
"""The maximum number of database connections of one process. A thread waits until one is free."""
MAX_CHILD_CONNECTIONS = 3
"""The maximum number of database connections of a process that runs one task at a time."""
OTHER_CONNECTIONS = 1
"""The number of database connections outside a process's pool. The heartbeat has one."""


@dataclass
class Context:
    """The objects that the threads of one process share. A forked process needs a context of its own."""

    settings: Settings
    max_connections: int = MAX_CONNECTIONS

    def check(self) -> None:
        """Check that the files named in the settings can be used and that the needed libraries are installed.

        Raises:
            SettingsError: A file cannot be used, or a library is missing. The message is one line.
        """
        self.settings.digester()
        observing.check(self.settings)
        _ = self.logo

    def check_version(self) -> None:
        """Raise an error if the database's tables are missing or belong to another version.

        Raises:
            WrongVersion: The database is newer or older than this program. The message is one line.
        """
        database = Database(self.settings.database_url.get_secret_value(), max_connections=1)
        try:
            versions.check(database)
        finally:
            database.close()

    def close(self) -> None:
        """Close all open connections. Call this only when no other thread uses the context."""
        # `__dict__` contains only the cached properties that were used.
        opened = self.__dict__
        if (background := opened.pop("background", None)) is not None:
            background.shutdown(cancel_futures=True)
        for channel in opened.pop("gateways", {}).values():
            channel.close()
        for name in ("store", "github", "github_of_gists", "github_of_canaries", "database"):
            if (resource := opened.pop(name, None)) is not None:
                resource.close()

    @cached_property
    def database(self) -> Database:
        database = Database(self.settings.database_url.get_secret_value(), max_connections=self.max_connections)
        event.listen(database.engine, "commit", lambda _: outage.database.worked())
        return database

    @cached_property
    def background(self) -> ThreadPoolExecutor:
        """Return an executor with one thread, which refreshes the web console's values."""
        return ThreadPoolExecutor(1, thread_name_prefix="refresh")

    @cached_property
    def github(self) -> GitHub:
        return self._connected(self._app or self._token, self.settings.scan_threads + 4)

    @cached_property
    def github_of_gists(self) -> GitHub:
        """Return the client that lists gists."""
        # GitHub does not allow Apps to list gists, so prefer a personal token.
        return self._connected(self._token, 2) if self._app and self._token else self.github

    @cached_property
    def github_of_canaries(self) -> GitHub:
        """Return the client that publishes canaries (test tokens). It uses a GitHub account of its own.

        Raises:
            SettingsError: R8SCAN_CANARY_GITHUB_TOKEN is not set.
        """
        from scanner.github.client import connect

        settings = self.settings
        if settings.canary_github_token is None:
            raise SettingsError("R8SCAN_CANARY_GITHUB_TOKEN must be set: canaries are written with it")
        token, label = settings.canary_github_token.get_secret_value(), "R8SCAN_CANARY_GITHUB_TOKEN"
        return connect(settings.github_api_url, settings.github_web_url, token, connections=1, label=label)

    def _connected(self, credential: App | str | None, connections: int) -> GitHub:
        from scanner.github.client import connect
        from scanner.github.request_rate import RateBounds
        from scanner.sources.shared_budget import DatabaseLedger

        return connect(
            self.settings.github_api_url,
            self.settings.github_web_url,
            credential,
            hosts=self.settings.github_hosts,
            ledger=DatabaseLedger(self.database),
            connections=connections,
            git_rate=RateBounds(*self.settings.git_rates()),
        )

    @property
    def credentials(self) -> tuple[App | str, ...]:
        """Return the GitHub credentials from the settings."""
        return tuple(one for one in (self._app, self._token) if one)

    def lone_client(self, credential: App | str | None) -> GitHub:
        """Return a client that ignores the rate limits that workers share. The caller must close it."""
        from scanner.github.client import connect

        settings = self.settings
        return connect(settings.github_api_url, settings.github_web_url, credential, hosts=settings.github_hosts)

    @property
    def _app(self) -> App | None:
        settings = self.settings
        if settings.github_app_id and settings.github_app_installation_id and settings.github_app_private_key:
            from scanner.github.client import App

            key = settings.github_app_private_key.get_secret_value()
            return App(settings.github_app_id, settings.github_app_installation_id, key)
        return None

    @property
    def _token(self) -> str | None:
        return self.settings.github_token.get_secret_value() if self.settings.github_token else None

    @cached_property
    def store(self) -> SqlStore | HttpStore:
        """Return the token store: an SQL table in this database, or the vendor's HTTP API.

        Raises:
            SettingsError: The certificates for the HTTP API cannot be read.
        """
        settings = self.settings
        if settings.token_store_url is None:
            return SqlStore(self.database)
        from scanner.tokens.http import HttpStore, tls_context

        try:
            tls = tls_context(
                settings.token_store_cert_file, settings.token_store_key_file, settings.token_store_ca_file
            )
        except OSError as err:
            raise SettingsError(
                f"R8SCAN_TOKEN_STORE_CERT_FILE, _KEY_FILE or _CA_FILE cannot be used ({err.strerror or err})"
            ) from err
        secret = settings.token_store_secret
        return HttpStore(settings.token_store_url, secret.get_secret_value() if secret else None, tls=tls)

    @cached_property
    def detector(self) -> Detector:
        from scanner.detection import Detector
        from scanner.isolation import shared_pool

        return Detector(self.settings.digester(), reader=shared_pool())

    @cached_property
    def transport(self) -> MailTransport:
        from notifications.email.transports import transport_for

        return transport_for(self.settings.smtp_url.get_secret_value())

    @cached_property
    def gateways(self) -> dict[Channel, AnnouncementChannel]:
        """Return the channels on which disabled tokens are announced to API gateways, by kind."""
        settings = self.settings
        found: dict[Channel, AnnouncementChannel] = {}
        if settings.announce_redis_url:
            from notifications.gateways import StreamChannel

            redis_url = settings.announce_redis_url.get_secret_value()
            found[Channel.STREAM] = StreamChannel(redis_url, settings.announce_stream)
        if settings.announce_webhook_url and settings.announce_webhook_secret:
            from notifications.gateways import WebhookChannel

            secret = settings.announce_webhook_secret.get_secret_value()
            found[Channel.WEBHOOK] = WebhookChannel(settings.announce_webhook_url, secret)
        return found

    @cached_property
    def operator_channels(self) -> tuple[OperatorChannel, ...]:
        """Return the channels for messages to the operator. The tuple may be empty."""
        from notifications.operator_channels import MailChannel, SlackChannel, WebhookOperatorChannel

        settings = self.settings
        found: list[OperatorChannel] = []
        if settings.operator_email:
            found.append(MailChannel(self.transport, self.identity, settings.operator_email))
        if settings.operator_webhook_url and settings.operator_webhook_secret:
            secret = settings.operator_webhook_secret.get_secret_value()
            found.append(WebhookOperatorChannel(settings.operator_webhook_url, secret))
        if settings.operator_slack_url:
            found.append(SlackChannel(settings.operator_slack_url.get_secret_value()))
        return tuple(found)

    @property
    def policy(self) -> Policy:
        return Policy(
            enforce=self.settings.enforce,
            operator_email=self.settings.operator_email,
            mail_window=self.settings.mail_window,
            mail_domain=domain_of(self.settings.email_from),
            access=access_to(self.store),
            mail_already_disabled=self.settings.mail_already_disabled,
            announce=tuple(sorted(self.gateways)),
        )

    @property
    def limits(self) -> PackLimits:
        from scanner.detection.git.packs import PackLimits

        return PackLimits(pack_bytes=self.settings.push_max_bytes)

    @cached_property
    def logo(self) -> Logo | None:
        """Return the logo for mails, or None if none is configured.

        Raises:
            SettingsError: The file cannot be read, or is not a picture that a mail can contain.
        """
        path = self.settings.logo_file
        if path is None:
            return None
        from notifications.email.logo import BadLogo, load_logo

        try:
            return load_logo(path)
        except BadLogo as err:
            raise SettingsError(f"R8SCAN_LOGO_FILE: {path} {err}") from err
        except OSError as err:
            raise SettingsError(f"R8SCAN_LOGO_FILE: cannot read {path} ({err.strerror or err})") from err

    @property
    def identity(self) -> MailIdentity:
        from notifications.email.render import MailIdentity

        return MailIdentity(
            sender=self.settings.email_from,
            vendor_name=self.settings.vendor_name,
            account_tokens_url=self.settings.account_tokens_url,
            usage_url=self.settings.usage_url,
            support_contact=self.settings.support_contact,
            operator_email=self.settings.operator_email,
            template_dir=self.settings.email_templates_dir,
            logo=self.logo,
            bounces_to=self.settings.email_bounces_to,
            github_web_url=self.settings.github_web_url,
        )


_lock = threading.Lock()
_current: Context | None = None
_max_connections = MAX_CONNECTIONS


def current_context() -> Context:
    """Return this process's context. The first call creates it.

    Raises:
        SettingsError: The settings are wrong.
    """
    global _current
    with _lock:
        if _current is None:
            _current = Context(load_settings(), _max_connections)
        return _current


def use_context(context: Context) -> None:
    """Set the context of this forked process. The parent process must not have used the context."""
    global _current
    _current = context


def forget_context(max_connections: int = MAX_CONNECTIONS) -> None:
    """Discard the context after a fork, because two processes must not share connections."""
    global _current, _max_connections
    _current, _max_connections = None, max_connections
