"""The sessions of people who are signed in to the console.

The cookie contains a random secret and its signature. The database contains only a hash of the secret.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from scanner.records import audit
from scanner.records.columns import insert_or_nothing
from scanner.records.console_models import ConsoleKey, ConsoleSession
from scanner.records.models import db_now
from scanner.records.states import Role
from scanner.settings import Settings
from workers.web.console import users
from workers.web.console.users import SignedIn

SEEN_EVERY_SECONDS = 60
"""The minimum time between two database writes that record a person's last activity."""
MAX_SESSIONS = 20
"""The maximum number of sessions of one person. The next sign-in ends the oldest session."""
MAX_COOKIE = 200
_KEY_ID = 1


@dataclass(frozen=True, slots=True)
class Person:
    """The signed-in person who sends a request."""

    name: str
    role: Role
    session_id: str
    expires_at: datetime

    @property
    def is_operator(self) -> bool:
        """Return whether the person may make decisions and changes."""
        return self.role == Role.OPERATOR

    @property
    def who(self) -> str:
        """Return the person's name for the audit log."""
        return f"console:{self.name}"


@dataclass(frozen=True, slots=True)
class FoundSession:
    """A session that has not ended. If `is_stale` is set, its use must be recorded now."""

    person: Person
    is_stale: bool


def signing_key(session: Session) -> bytes:
    """Return the key that signs cookies, and create it if there is none. `session` is a writing transaction."""
    values = {"id": _KEY_ID, "key": secrets.token_hex(32)}
    session.execute(insert_or_nothing(session, ConsoleKey).values(values))
    return bytes.fromhex(session.execute(select(ConsoleKey.key).where(ConsoleKey.id == _KEY_ID)).scalar_one())


def signed(secret: str, key: bytes) -> str:
    """Return the session cookie's value: the secret with its signature."""
    return f"{secret}.{hmac.new(key, secret.encode(), hashlib.sha256).hexdigest()}"


def secret_of(cookie: str, key: bytes) -> str | None:
    """Return the secret from a session cookie's value, or None if the signature is wrong."""
    if len(cookie) > MAX_COOKIE or not cookie.isascii():
        return None
    secret = cookie.partition(".")[0]
    return secret if secret and hmac.compare_digest(signed(secret, key), cookie) else None


def begin(session: Session, person: SignedIn, settings: Settings, network: str, subject: str = "") -> str:
    """Begin a session and return its secret. Expired sessions, and those above MAX_SESSIONS, are deleted.

    Args:
        session: A writing transaction.
        network: The person's IP network, for the session and the audit log.
        subject: The identity provider's id for the person. Empty after sign-in with a password.
    """
    secret = secrets.token_urlsafe(32)
    session.execute(delete(ConsoleSession).where(ConsoleSession.expires_at < db_now()))
    newest = (
        select(ConsoleSession.id)
        .where(ConsoleSession.name == person.name)
        .order_by(ConsoleSession.created_at.desc())
        .limit(MAX_SESSIONS - 1)
    )
    kept = list(session.execute(newest).scalars())
    session.execute(delete(ConsoleSession).where(ConsoleSession.name == person.name, ConsoleSession.id.not_in(kept)))
    row = insert_or_nothing(session, ConsoleSession).values(
        id=_hashed(secret),
        name=person.name,
        role=person.role,
        credential=person.credential,
        network=network,
        created_at=db_now(),
        seen_at=db_now(),
        expires_at=db_now(settings.console_session_hours * 3600),
    )
    session.execute(row)
    evidence = {"network": network, "role": person.role, **({"subject": subject} if subject else {})}
    audit.record(session, "console_signed_in", evidence, who=f"console:{person.name}")
    return secret


def find(session: Session, secret: str, settings: Settings) -> FoundSession | None:
    """Return the session with this secret, or None if there is none or it has ended."""
    row = session.execute(
        select(ConsoleSession, (ConsoleSession.seen_at < db_now(-SEEN_EVERY_SECONDS)).label("is_stale")).where(
            ConsoleSession.id == _hashed(secret),
            ConsoleSession.expires_at > db_now(),
            ConsoleSession.seen_at > db_now(-settings.console_idle_minutes * 60),
        )
    ).one_or_none()
    if row is None:
        return None
    found: ConsoleSession = row[0]
    role = _role_now(session, found, settings)
    if role is None:
        return None
    return FoundSession(Person(found.name, role, found.id, found.expires_at), bool(row.is_stale))


def touch(session: Session, person: Person) -> None:
    """Record that the person has used the session now, so that it does not time out."""
    session.execute(
        update(ConsoleSession)
        .where(ConsoleSession.id == person.session_id)
        .values(seen_at=db_now())
        .execution_options(synchronize_session=False)
    )


def end(session: Session, person: Person) -> None:
    """End the person's current session at sign-out."""
    session.execute(delete(ConsoleSession).where(ConsoleSession.id == person.session_id))
    audit.record(session, "console_signed_out", {}, who=person.who)


def _role_now(session: Session, found: ConsoleSession, settings: Settings) -> Role | None:
    """Return the person's current role, or None if the session is no longer valid."""
    if found.name.startswith(users.OIDC_PREFIX):
        from workers.web.console import oidc  # imported here, because its libraries take ten megabytes

        # A role from the identity provider is valid only while the settings for the provider are unchanged.
        is_same = settings.oidc_issuer and hmac.compare_digest(oidc.credential(settings), found.credential)
        return found.role if is_same else None
    now = users.credential_of(session, settings, found.name)
    if now is None or not hmac.compare_digest(users.fingerprint(now.password_hash), found.credential):
        return None
    return now.role


def _hashed(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
