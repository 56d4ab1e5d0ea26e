"""The tables of the console: its users, their sessions, and the key that signs session cookies."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.orm import Mapped, mapped_column

from scanner.records.columns import String
from scanner.records.models import Base
from scanner.records.states import Role, column_of


class ConsoleUser(Base):
    """A person who signs in with a password. `password_hash` is an argon2id hash; `name` is lower case."""

    __tablename__ = "console_users"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    password_hash: Mapped[str] = mapped_column(String(255))
    role: Mapped[Role] = mapped_column(column_of(Role, 16))
    created_at: Mapped[datetime]


class ConsoleSession(Base):
    """A session of the console. It ends when the password or the settings of the identity provider change.

    `id` is the SHA-256 of the secret in the cookie.
    """

    __tablename__ = "console_sessions"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(255), index=True)
    role: Mapped[Role] = mapped_column(column_of(Role, 16))
    credential: Mapped[str] = mapped_column(String(64))
    network: Mapped[str] = mapped_column(String(64))
    """The network from which the user signed in, for example as an address with a prefix length."""
    created_at: Mapped[datetime]
    seen_at: Mapped[datetime]
    expires_at: Mapped[datetime] = mapped_column(index=True)


class ConsoleKey(Base):
    """The key that signs session cookies, in one row."""

    __tablename__ = "console_keys"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    key: Mapped[str] = mapped_column(String(64))


__all__ = ["ConsoleKey", "ConsoleSession", "ConsoleUser"]
