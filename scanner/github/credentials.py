"""What we show GitHub to be let in: nothing, a personal token, or an App's installation token that is renewed in time.

https://docs.github.com/apps/creating-github-apps/authenticating-with-a-github-app
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import jwt

from scanner.github.errors import BadCredential

JWT_SECONDS = 540
"""GitHub takes at most ten minutes; clocks differ."""
CLOCK_SKEW_SECONDS = 60
RENEW_BEFORE_SECONDS = 300.0
BAD_KEY_SECONDS = 600.0


class Credential(Protocol):
    """`label` names it in logs and status without giving it away."""

    @property
    def label(self) -> str:
        """The setting it comes from."""

    def token(self) -> str | None:
        """What to send now; None for nothing. Raises GitHubError when it cannot be had."""

    def renew(self) -> bool:
        """Forget what was rejected; True if `token` would give another one."""


@dataclass(frozen=True, slots=True)
class NoCredential:
    """GitHub allows 60 requests an hour to strangers."""

    label: str = "none"

    def token(self) -> str | None:
        return None

    def renew(self) -> bool:
        return False


@dataclass(frozen=True, slots=True, repr=False)
class PersonalToken:
    """A token of a person or a service account."""

    value: str
    label: str = "R8SCAN_GITHUB_TOKEN"

    def token(self) -> str | None:
        return self.value

    def renew(self) -> bool:
        return False


class AppInstallation:
    """An installation of a GitHub App: `exchange` turns a signed JWT into (token, its end) by a request to GitHub."""

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
        """The installation's token, made anew five minutes before it ends. One thread asks, the others wait."""
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
        now = int(self._clock())
        claims: dict[str, Any] = {
            "iat": now - CLOCK_SKEW_SECONDS,
            "exp": now + JWT_SECONDS - CLOCK_SKEW_SECONDS,
            "iss": self._app_id,
        }
        try:
            return jwt.encode(claims, self._private_key, algorithm="RS256")
        except (ValueError, TypeError, jwt.PyJWTError) as err:
            message = "R8SCAN_GITHUB_APP_PRIVATE_KEY is no RSA private key in PEM form"
            raise BadCredential("bad_private_key", message, retry_after=BAD_KEY_SECONDS, asked=False) from err
