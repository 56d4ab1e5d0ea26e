"""Credentials for GitHub: none, a personal token, or an App's installation token.

https://docs.github.com/apps/creating-github-apps/authenticating-with-a-github-app
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from scanner.github.errors import BadCredential

JWT_SECONDS = 540
"""Lifetime of the JWT, for which GitHub accepts at most ten minutes."""
CLOCK_SKEW_SECONDS = 60
RENEW_BEFORE_SECONDS = 300.0
BAD_KEY_SECONDS = 600.0


class Credential(Protocol):
    """A credential for GitHub. `label` is its name in logs, without the secret."""

    @property
    def label(self) -> str:
        """The name of the credential for display, for example the name of its setting."""

    def token(self) -> str | None:
        """Return the token to send, or None for anonymous requests.

        Raises:
            GitHubError: No token can be obtained.
        """

    def renew(self) -> bool:
        """Forget the token that GitHub has rejected. Return whether another token can be used now."""


@dataclass(frozen=True, slots=True)
class NoCredential:
    """Anonymous access. GitHub allows 60 requests an hour."""

    label: str = "none"

    def token(self) -> str | None:
        return None

    def renew(self) -> bool:
        return False


@dataclass(frozen=True, slots=True, repr=False)
class PersonalToken:
    """A token of a GitHub user."""

    value: str
    label: str = "R8SCAN_GITHUB_TOKEN"

    def token(self) -> str | None:
        return self.value

    def renew(self) -> bool:
        return False


class AppInstallation:
    """The credential of an installation of a GitHub App. Threads can share it.

    Args:
        private_key: The App's private key in PEM form.
        exchange: Sends a signed JWT and the installation's id to GitHub. Returns a token and its expiry date.
    """

    def __init__(
        self,
        app_id: str,
        installation_id: int,
        private_key: str,
        exchange: Callable[[str, int], tuple[str, datetime]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._app_id = app_id
        self._installation_id = installation_id
        self._private_key = private_key
        self._exchange = exchange
        self._clock = clock
        self._lock = threading.Lock()
        self._token: str | None = None
        self._ends_at = 0.0

    @property
    def label(self) -> str:
        return f"GitHub App {self._app_id}, installation {self._installation_id}"

    def token(self) -> str | None:
        """Return the installation's token, renewed RENEW_BEFORE_SECONDS before it expires."""
        with self._lock:
            if self._token is None or self._ends_at - self._clock() < RENEW_BEFORE_SECONDS:
                self._token, ends_at = self._exchange(self._jwt(), self._installation_id)
                self._ends_at = ends_at.timestamp()
            return self._token

    def renew(self) -> bool:
        with self._lock:
            had_one, self._token = self._token is not None, None
            return had_one

    def _jwt(self) -> str:
        import jwt  # imported here because it loads the whole of `cryptography`, and only a GitHub App needs it

        now = int(self._clock())
        claims: dict[str, Any] = {
            "iat": now - CLOCK_SKEW_SECONDS,
            "exp": now + JWT_SECONDS - CLOCK_SKEW_SECONDS,
            "iss": self._app_id,
        }
        try:
            return jwt.encode(claims, self._private_key, algorithm="RS256")
        except (ValueError, TypeError, jwt.PyJWTError) as err:
            message = "R8SCAN_GITHUB_APP_PRIVATE_KEY is not an RSA private key in PEM form"
            raise BadCredential("bad_private_key", message, retry_after=BAD_KEY_SECONDS, asked=False) from err
