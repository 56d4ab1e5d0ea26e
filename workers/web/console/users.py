"""The console's users who sign in with a password."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from scanner.records import audit
from scanner.records.columns import insert_or_nothing
from scanner.records.console_models import ConsoleSession, ConsoleUser
from scanner.records.models import db_now
from scanner.records.states import Role
from scanner.settings import Settings

MIN_PASSWORD = 12
MAX_PASSWORD = 256
SETTINGS_USER = "operator"
"""The name of the user whose password hash is R8SCAN_CONSOLE_PASSWORD_HASH."""
OIDC_PREFIX = "oidc:"
"""The beginning of the names of people from the identity provider. Users with a password have no such name."""
# Follow OWASP's recommendation for argon2id: 19 MiB, two passes, one lane. https://cheatsheetseries.owasp.org
_HASHER = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
_NAME = re.compile(r"[a-z0-9][a-z0-9._@-]{0,63}")
_UNKNOWN_USER_HASH = _HASHER.hash("nobody has this password")
"""The hash for unknown names. Without it, the response time would reveal which names exist."""


class BadUser(Exception):
    """Raised if a user cannot be added, changed or found. The message is one line."""


@dataclass(frozen=True, slots=True)
class SignedIn:
    """An authenticated person. `credential` is a hash of the password hash or of the identity provider's settings."""

    name: str
    role: Role
    credential: str


@dataclass(frozen=True, slots=True)
class Credential:
    """The password hash and the role of a user."""

    password_hash: str
    role: Role


def folded_name(name: str) -> str:
    """Return the name in lower case.

    Raises:
        BadUser: The name is malformed.
    """
    folded = name.strip().lower()
    if not _NAME.fullmatch(folded):
        raise BadUser("a name has 1 to 64 of a-z, 0-9, dot, @, _ and -, and begins with a letter or digit")
    return folded


def hash_password(password: str) -> str:
    """Return the argon2id hash of a password.

    Raises:
        BadUser: The password is too short or too long.
    """
    if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
        raise BadUser(f"a password has {MIN_PASSWORD} to {MAX_PASSWORD} characters")
    return _HASHER.hash(password)


def fingerprint(credential: str) -> str:
    """Return a hash of a credential. A session ends when this hash changes."""
    return hashlib.sha256(credential.encode()).hexdigest()


def add(session: Session, name: str, password_hash: str, role: Role, *, who: str) -> None:
    """Add a user in the writing transaction `session`.

    Raises:
        BadUser: The name is taken or malformed.
    """
    folded = folded_name(name)
    if folded == SETTINGS_USER:
        raise BadUser(f"{SETTINGS_USER} is the user of R8SCAN_CONSOLE_PASSWORD_HASH: take the person's own name")
    row = insert_or_nothing(session, ConsoleUser).values(
        name=folded, password_hash=password_hash, role=role, created_at=db_now()
    )
    if session.execute(row.returning(ConsoleUser.name)).scalar_one_or_none() is None:
        raise BadUser(f"the user {folded} already exists: remove it first, or set its password")
    audit.record(session, "console_user_added", {"user": folded, "role": role}, who=who)


def change(
    session: Session, name: str, *, password_hash: str | None = None, role: Role | None = None, who: str
) -> None:
    """Change a user's password or role, and end the user's sessions. `session` is a writing transaction.

    Raises:
        BadUser: There is no such user.
    """
    folded = folded_name(name)
    values = {"password_hash": password_hash, "role": role}
    given = {key: value for key, value in values.items() if value is not None}
    statement = update(ConsoleUser).where(ConsoleUser.name == folded).values(given).returning(ConsoleUser.name)
    if session.execute(statement).scalar_one_or_none() is None:
        raise BadUser(f"there is no user {folded}: see r8scan console user list")
    end_sessions(session, folded)
    evidence = {"user": folded, **({"role": role} if role else {"password": "changed"})}
    audit.record(session, "console_user_changed", evidence, who=who)


def remove(session: Session, name: str, *, who: str) -> None:
    """Remove a user, and end the user's sessions. `session` is a writing transaction.

    Raises:
        BadUser: There is no such user.
    """
    folded = folded_name(name)
    statement = delete(ConsoleUser).where(ConsoleUser.name == folded).returning(ConsoleUser.name)
    if session.execute(statement).scalar_one_or_none() is None:
        raise BadUser(f"there is no user {folded}: see r8scan console user list")
    end_sessions(session, folded)
    audit.record(session, "console_user_removed", {"user": folded}, who=who)


def end_sessions(session: Session, name: str) -> int:
    """End all sessions of a user. Return their number."""
    ended = session.execute(delete(ConsoleSession).where(ConsoleSession.name == name).returning(ConsoleSession.id))
    return len(ended.all())


def listed(session: Session) -> list[ConsoleUser]:
    return list(session.execute(select(ConsoleUser).order_by(ConsoleUser.name)).scalars())


def anybody(session: Session, settings: Settings) -> bool:
    """Return whether there is a user or an identity provider, so that somebody can sign in."""
    is_set = settings.console_password_hash is not None or settings.oidc_issuer is not None
    return is_set or session.execute(select(ConsoleUser.name).limit(1)).scalar_one_or_none() is not None


def credential_of(session: Session, settings: Settings, name: str) -> Credential | None:
    """Return the password hash and role of a user, or None for an unknown name."""
    if name == SETTINGS_USER:
        setting = settings.console_password_hash
        return Credential(setting.get_secret_value(), Role.OPERATOR) if setting else None
    row = session.get(ConsoleUser, name)
    return Credential(row.password_hash, row.role) if row else None


def check(found: Credential | None, name: str, password: str) -> SignedIn | None:
    """Return the authenticated person, or None if the name is unknown or the password is wrong."""
    # Verify a hash even if the name is unknown, so that the response time does not reveal which names exist.
    try:
        _HASHER.verify(found.password_hash if found else _UNKNOWN_USER_HASH, password[:MAX_PASSWORD])
    except (VerificationError, InvalidHashError):
        return None
    return SignedIn(name, found.role, fingerprint(found.password_hash)) if found else None
