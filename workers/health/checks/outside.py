"""Checks of other servers, such as GitHub, the mail server and the token store.

Each function returns one line about the result, or raises `Wrong` if the check fails.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import redis
from sqlalchemy import func, select

from notifications.email.render import UnusableAddress, envelope_sender, recipient_address
from notifications.email.smtp import SmtpTransport
from notifications.email.transport import PermanentFailure, TransientFailure
from notifications.operator_channels import News, OperatorChannel, OperatorNotNotified
from scanner.github.client import App, get_json
from scanner.github.errors import BadCredential, GitHubError, NotFound, RateLimited
from scanner.github.git_protocol import list_refs
from scanner.records.canaries import own_tokens
from scanner.settings import GITHUB
from scanner.tokens.conformance import UNKNOWN
from scanner.tokens.protocol import StoreUnavailable
from workers.context import Context
from workers.health import tokens
from workers.health.checks.check import Off, Wrong
from workers.health.machine import mail_transport
from workers.health.problems import counted

CONNECT_SECONDS = 5.0
MAIL_SECONDS = 15.0
PUBLIC_REPOSITORY = "octocat/Hello-World"
"""The repository that a check reads. A self-hosted GitHub may lack it, so the answer "not found" also passes."""
MAX_SCOPES_LENGTH = 120


def check_credential(context: Context, credential: App | str | None) -> str:
    """Check that GitHub accepts the credential and that its quotas are not used up. The check uses no quota."""
    if credential is None:
        if not context.settings.sources:
            raise Off("none is set, and no source is on")
        raise Wrong("none is set, so GitHub allows 60 requests an hour", "set R8SCAN_GITHUB_TOKEN")
    github = context.lone_client(credential)
    try:
        response, found = get_json(github, f"{github.api_url}/rate_limit", expected=dict)
    except NotFound:
        return f"{github.credential_label}: accepted, and this GitHub has no rate limits"
    except BadCredential as err:
        raise Wrong(str(err), "make a new one; it needs no scopes") from err
    except GitHubError as err:
        raise Wrong(str(err), _todo(err, "R8SCAN_GITHUB_API_URL")) from err
    finally:
        github.close()
    quotas = _quotas(found)
    empty = [name for name, (left, _) in quotas.items() if left == 0]
    if empty:
        sentence = f"{github.credential_label}: the quota of {' and '.join(empty)} is used up"
        raise Wrong(
            sentence,
            "wait for the next hour, or set R8SCAN_GITHUB_TOKEN to a token that only r8scan uses",
        )
    parts = [f"{name} {left:,} of {limit:,} left" for name, (left, limit) in quotas.items()]
    scopes = "".join(char for char in response.headers.get("x-oauth-scopes", "") if char.isprintable())
    if scopes:
        parts.append(f"scopes {scopes[:MAX_SCOPES_LENGTH]} (none is needed: a token without scopes is safer)")
    return f"{github.credential_label}: {', '.join(parts)}"


def _todo(err: GitHubError, setting: str) -> str:
    if isinstance(err, RateLimited):
        more = "if it goes on, give r8scan a credential that nothing else uses"
        return f"wait: requests are sent again when GitHub accepts them; {more}"
    return f"look at the network, the proxy and {setting}"


def _quotas(found: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    resources = found.get("resources")
    quotas = {}
    for name in ("core", "search", "code_search", "graphql"):
        quota = resources.get(name) if isinstance(resources, dict) else None
        if isinstance(quota, dict) and isinstance(quota.get("remaining"), int) and isinstance(quota.get("limit"), int):
            quotas[name] = (quota["remaining"], quota["limit"])
    return quotas


def check_git(context: Context) -> str:
    """Check that git can read a repository from GitHub over HTTPS."""
    github = context.lone_client(next(iter(context.credentials), None))
    host = urlsplit(github.web_url).hostname
    try:
        refs = list_refs(github, PUBLIC_REPOSITORY)
    except NotFound as err:
        if context.settings.github_web_url == GITHUB:
            raise Wrong(str(err), "look at the network and the proxy") from err
        return f"{host} answers git"
    except GitHubError as err:
        raise Wrong(str(err), _todo(err, "R8SCAN_GITHUB_WEB_URL")) from err
    finally:
        github.close()
    return f"{host} listed {counted(len(refs.oids), 'ref')} of {PUBLIC_REPOSITORY}"


def check_mail(context: Context) -> str:
    """Check that the mail server accepts the login, the sender and the operator's address. No mail is sent."""
    settings = context.settings
    where = mail_transport(settings)
    transport = context.transport
    if not isinstance(transport, SmtpTransport):
        raise Wrong(f"mails to owners go into a local folder ({where}), not to the owners", "set R8SCAN_SMTP_URL")
    try:
        sender = envelope_sender(context.identity)
        recipient = recipient_address(settings.operator_email) if settings.operator_email else ""
    except UnusableAddress as err:
        raise Wrong(f"an address cannot be used: {err}", "correct R8SCAN_EMAIL_FROM or R8SCAN_OPERATOR_EMAIL") from err
    with transport.open() as connection:
        try:
            connection.rehearse(sender, recipient, deadline=time.monotonic() + MAIL_SECONDS)
        except (TransientFailure, PermanentFailure) as err:
            raise Wrong(
                err.reason,
                "bring the server back, or correct what it refuses: R8SCAN_SMTP_URL (connection, login),"
                " R8SCAN_EMAIL_FROM (sender) or R8SCAN_OPERATOR_EMAIL (recipient)",
            ) from err
    done = f"logged in as {transport.user}" if transport.user else "answers, without a login"
    to = f" to {recipient}" if recipient else ""
    return f"{where}: {done}, and accepts mails from {sender}{to}; to send one: r8scan email test ADDRESS"


def check_store(context: Context) -> str:
    """Check that the token store answers. r8scan's own token store (an SQL table) must also contain tokens."""
    if context.settings.token_store_url is None:
        with context.database.read() as session:
            number = session.execute(select(func.count()).where(~own_tokens())).scalar_one()
        if not number:
            raise Wrong(tokens.NONE_KNOWN, tokens.IMPORT)
        return f"own tables, {counted(number, 'token')}"
    try:
        context.store.look_up([UNKNOWN])
    except StoreUnavailable as err:
        raise Wrong(f"the token store is unavailable ({err})", "run r8scan store check") from err
    return f"{context.settings.token_store_url} answers; check its contract with: r8scan store check"


def check_channel(channel: OperatorChannel, *, send: bool) -> str:
    """Check that the server for messages to the operator can be reached. If `send` is set, send a test message."""
    if not send:
        return f"{_reached(channel.address)}; no message was sent (see --send)"
    try:
        channel.notify([News("test", "test", "this is a test by r8scan doctor; nothing has to be done")])
    except OperatorNotNotified as err:
        raise Wrong(str(err), f"correct the settings of the channel {channel.name}") from err
    return "a test message was accepted"


def check_address(url: str) -> str:
    """Check that the URL's server can be reached and that its certificate is trusted."""
    return _reached(url)


def check_stream(url: str) -> str:
    """Check that the Redis server for the announcements to API gateways answers."""
    client = redis.Redis.from_url(url, socket_connect_timeout=CONNECT_SECONDS, socket_timeout=CONNECT_SECONDS)
    try:
        client.ping()
    except redis.RedisError as err:
        sentence = f"the Redis of the gateways' stream does not answer ({type(err).__name__})"
        raise Wrong(sentence, "bring it back, or correct R8SCAN_ANNOUNCE_REDIS_URL") from err
    finally:
        client.close()
    return "answers"


def _reached(url: str) -> str:
    """Connect to the URL's server and return a sentence about it. Raise Wrong if this fails."""
    # Send no request, because the URL's path may be a secret.
    parts = urlsplit(url)
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        with socket.create_connection((host, port), CONNECT_SECONDS) as plain:
            if parts.scheme == "https":
                with ssl.create_default_context().wrap_socket(plain, server_hostname=host):
                    return f"{host}:{port} can be reached"
    except ssl.SSLCertVerificationError as err:
        raise Wrong(
            f"the certificate of {host}:{port} cannot be trusted", "add its authority to SSL_CERT_FILE"
        ) from err
    except OSError as err:
        sentence = f"{host}:{port} cannot be reached ({err.strerror or type(err).__name__})"
        raise Wrong(sentence, "correct the address, or look at the network") from err
    return f"{host}:{port} can be reached"
