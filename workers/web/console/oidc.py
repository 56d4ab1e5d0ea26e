"""A client for identity providers that use OpenID Connect: https://openid.net/specs/openid-connect-core-1_0.html

It uses the authorization code flow with PKCE, state and nonce.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import secrets
import threading
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
from authlib.oauth2.rfc6749.parameters import prepare_grant_uri
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from scanner.detection import redact
from scanner.records.states import Role
from scanner.settings import Settings
from workers.web.console.users import OIDC_PREFIX, SignedIn, fingerprint

CALLBACK = "/console/sign-in/oidc/callback"
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519")
"""The accepted signature algorithms. All of them use a public key."""
TIMEOUT_SECONDS = 10.0
METADATA_SECONDS = 3600.0
KEYS_AGAIN_SECONDS = 60.0
"""If a signature names an unknown key, the provider's keys are loaded again, at most once in this time."""
LEEWAY_SECONDS = 60
MAX_ANSWER_BYTES = 512 * 1024
MAX_ANSWER_SECONDS = 20.0
"""The time limit for a whole answer of the provider."""
MAX_NAME = 200
ENDPOINTS = ("authorization_endpoint", "token_endpoint", "jwks_uri")


class OidcError(Exception):
    """Raised if the person cannot be signed in. The message is one line."""


@dataclass(frozen=True, slots=True)
class Flow:
    """One sign-in that has begun but not ended. `secret` is stored only in a cookie of the browser."""

    secret: str

    @classmethod
    def begin(cls) -> Flow:
        """Start a sign-in with a random secret."""
        return cls(secrets.token_urlsafe(32))

    @property
    def state(self) -> str:
        """Return OpenID's `state` parameter, which proves that this browser began the sign-in."""
        return self._derived("state")

    @property
    def nonce(self) -> str:
        """Return OpenID's `nonce` parameter, which proves that the identity token is for this sign-in."""
        return self._derived("nonce")

    @property
    def verifier(self) -> str:
        """Return the PKCE code verifier, which proves that the same client began the sign-in."""
        return self._derived("verifier")

    def _derived(self, what: str) -> str:
        return hashlib.sha256(f"{what}:{self.secret}".encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Identity:
    """A person whom the identity provider has authenticated. `subject` is the provider's id for the person."""

    person: SignedIn
    subject: str


class Provider:
    """The identity provider. Its metadata and signing keys are cached for an hour."""

    def __init__(self, settings: Settings) -> None:
        assert settings.oidc_issuer is not None  # noqa: S101 - the caller has checked this
        assert settings.oidc_client_id is not None  # noqa: S101 - checked when the settings were read
        self._settings = settings
        self._issuer = settings.oidc_issuer
        self._client_id = settings.oidc_client_id
        self._redirect = f"{settings.console_url}{CALLBACK}"
        self._lock = threading.Lock()
        self._metadata: tuple[float, dict[str, Any]] | None = None
        self._keys: tuple[float, KeySet] | None = None

    def address(self, flow: Flow) -> str:
        """Return the URL of the provider's sign-in page.

        Raises:
            OidcError: The provider's metadata cannot be read.
        """
        metadata = self._discovered()
        return str(
            prepare_grant_uri(
                metadata["authorization_endpoint"],
                self._client_id,
                "code",
                redirect_uri=self._redirect,
                scope=self._settings.oidc_scopes,
                state=flow.state,
                nonce=flow.nonce,
                code_challenge=create_s256_code_challenge(flow.verifier),
                code_challenge_method="S256",
            )
        )

    def identity(self, flow: Flow, code: str) -> Identity:
        """Send the code to the provider, and return the person to whom it was issued.

        Raises:
            OidcError: The provider gives no valid answer, or the person may not use the console.
        """
        metadata = self._discovered()
        tokens = self._redeemed(metadata, flow, code)
        claims = self._claims(metadata, flow, tokens)
        if self._role_values(claims) is None and "userinfo_endpoint" in metadata and "access_token" in tokens:
            claims = {**self._user_info(metadata, tokens, claims), **claims}
        role = self._role(claims)
        person = SignedIn(name_of(claims, self._settings), role, credential(self._settings))
        return Identity(person, subject=str(claims["sub"]))

    def _redeemed(self, metadata: dict[str, Any], flow: Flow, code: str) -> dict[str, Any]:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._redirect,
            "code_verifier": flow.verifier,
        }
        secret = self._settings.oidc_client_secret
        auth = None
        ways = metadata.get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
        if secret is not None and "client_secret_basic" in ways:
            # The id and secret must be form-encoded: https://www.rfc-editor.org/rfc/rfc6749#section-2.3.1
            auth = httpx.BasicAuth(quote(self._client_id, safe=""), quote(secret.get_secret_value(), safe=""))
        else:
            form["client_id"] = self._client_id
            if secret is not None:
                form["client_secret"] = secret.get_secret_value()
        return self._asked("POST", metadata["token_endpoint"], data=form, auth=auth)

    def _claims(self, metadata: dict[str, Any], flow: Flow, tokens: dict[str, Any]) -> dict[str, Any]:
        given = tokens.get("id_token")
        if not isinstance(given, str):
            raise OidcError("the identity provider sent no identity token")
        token = self._verified(metadata, given)
        options: Any = {
            # Use the issuer in the provider's metadata: unlike the one in the settings, it may end in a slash.
            "iss": {"essential": True, "value": metadata["issuer"]},
            "aud": {"essential": True, "value": self._client_id},
            "sub": {"essential": True},
            "exp": {"essential": True},
        }
        params = {"nonce": flow.nonce, "client_id": self._client_id, "access_token": tokens.get("access_token")}
        claims = CodeIDToken(token.claims, token.header, options, params)
        try:
            claims.validate(int(time.time()), LEEWAY_SECONDS)
        except (JoseError, ValueError, TypeError) as err:
            raise OidcError(f"the identity token is not valid ({_word(err)})") from err
        if not isinstance(claims["sub"], str) or not claims["sub"]:
            raise OidcError("the identity token names no person")
        return dict(claims)

    def _verified(self, metadata: dict[str, Any], given: str) -> jwt.Token:
        try:
            return jwt.decode(given, self._key_set(metadata), algorithms=list(ALGORITHMS))
        except (JoseError, ValueError, TypeError):
            fresh = self._key_set(metadata, again=True)
        try:
            return jwt.decode(given, fresh, algorithms=list(ALGORITHMS))
        except (JoseError, ValueError, TypeError) as err:
            raise OidcError(f"the signature of the identity token is not the provider's ({_word(err)})") from err

    def _user_info(self, metadata: dict[str, Any], tokens: dict[str, Any], claims: dict[str, Any]) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {tokens['access_token']}"}
        found = self._asked("GET", metadata["userinfo_endpoint"], headers=headers)
        if found.get("sub") != claims["sub"]:
            raise OidcError("the identity provider answered about another person")
        return found

    def _role(self, claims: dict[str, Any]) -> Role:
        values = self._role_values(claims) or set()
        if values & set(self._settings.oidc_operators):
            return Role.OPERATOR
        if values & set(self._settings.oidc_viewers):
            return Role.VIEWER
        raise OidcError("you are signed in, but no group of yours may use this console: ask an operator")

    def _role_values(self, claims: dict[str, Any]) -> set[str] | None:
        """Return the values of the role claim, or None if it is missing or unverified."""
        found: Any = claims.get(self._settings.oidc_role_claim)
        if self._settings.oidc_role_claim == "email" and claims.get("email_verified") not in (True, "true"):
            return None  # the provider has not verified the address
        if found is None:
            # The setting may also name a member of a claim: "a.b" is the member "b" of the claim "a".
            found = claims
            for part in self._settings.oidc_role_claim.split("."):
                found = found.get(part) if isinstance(found, dict) else None
        if found is None:
            return None
        return {str(one) for one in found} if isinstance(found, list) else {str(found)}

    def _discovered(self) -> dict[str, Any]:
        with self._lock:
            if self._metadata is not None and time.monotonic() - self._metadata[0] < METADATA_SECONDS:
                return self._metadata[1]
            found = self._asked("GET", f"{self._issuer}/.well-known/openid-configuration")
            if str(found.get("issuer", "")).rstrip("/") != self._issuer:
                raise OidcError("the identity provider names another issuer than R8SCAN_OIDC_ISSUER")
            for name in (*ENDPOINTS, *(("userinfo_endpoint",) if "userinfo_endpoint" in found else ())):
                if not is_safe_address(str(found.get(name, ""))):
                    raise OidcError(f"the identity provider's {name} is no https:// address")
            self._metadata = (time.monotonic(), found)
            return found

    def _key_set(self, metadata: dict[str, Any], *, again: bool = False) -> KeySet:
        with self._lock:
            age = time.monotonic() - self._keys[0] if self._keys else METADATA_SECONDS
            if self._keys is None or age >= (KEYS_AGAIN_SECONDS if again else METADATA_SECONDS):
                found = self._asked("GET", metadata["jwks_uri"])
                try:
                    keys = KeySet.import_key_set(found)  # type: ignore[arg-type]  # it checks the form itself
                except (JoseError, ValueError, TypeError, KeyError) as err:
                    raise OidcError("the identity provider's keys cannot be read") from err
                self._keys = (time.monotonic(), keys)
            return self._keys[1]

    def _asked(self, method: str, address: str, **given: Any) -> dict[str, Any]:
        """Send a request to the provider and return its JSON object. Raise OidcError if this fails."""
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        deadline = time.monotonic() + MAX_ANSWER_SECONDS
        try:
            with (
                httpx.Client(timeout=TIMEOUT_SECONDS, headers=headers) as client,
                client.stream(method, address, **given) as answer,
            ):
                if answer.headers.get("content-encoding", "identity").strip().lower() != "identity":
                    # Refuse compressed answers: httpx decompresses a piece at once, which could fill the memory.
                    raise OidcError("the identity provider's answer is compressed")
                body = b""
                for piece in answer.iter_bytes():
                    body += piece
                    if len(body) > MAX_ANSWER_BYTES:
                        raise OidcError("the identity provider's answer is too large")
                    if time.monotonic() > deadline:
                        raise OidcError("the identity provider answers too slowly")
        except httpx.HTTPError as err:
            raise OidcError(f"the identity provider does not answer ({type(err).__name__}): try again later") from err
        try:
            found = json.loads(body)
        except (ValueError, RecursionError):
            found = None
        if answer.status_code != 200 or not isinstance(found, dict):
            reason = found.get("error") if isinstance(found, dict) else None
            raise OidcError(f"the identity provider refused: {printable(str(reason or answer.status_code))}")
        return found


def credential(settings: Settings) -> str:
    """Return a hash of the settings for the identity provider. A session ends when this hash changes."""
    named = (
        *(settings.oidc_issuer, settings.oidc_client_id, settings.oidc_role_claim),
        *("|".join(settings.oidc_operators), "|".join(settings.oidc_viewers)),
    )
    return fingerprint(f"oidc {json.dumps(named)}")


def name_of(claims: dict[str, Any], settings: Settings) -> str:
    """Return the person's name for the audit log, or the provider's id if there is no verified name."""
    given = claims.get(settings.oidc_name_claim)
    # Some providers send `email_verified` as text.
    is_unverified = settings.oidc_name_claim == "email" and claims.get("email_verified", True) not in (True, "true")
    name = given if isinstance(given, str) and given.strip() and not is_unverified else str(claims["sub"])
    return OIDC_PREFIX + printable(name)


def printable(text: str) -> str:
    """Return text from the provider as one short printable line without tokens."""
    return redact("".join(char if char.isprintable() else " " for char in text)).strip()[:MAX_NAME]


def is_safe_address(address: str) -> bool:
    """Return whether secrets may be sent to this URL: it uses HTTPS or is on this machine."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return False
    if parts.scheme == "https":
        return bool(parts.hostname)
    if parts.scheme != "http":
        return False
    try:
        return ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return parts.hostname == "localhost"


def _word(err: Exception) -> str:
    return printable(str(getattr(err, "error", "") or type(err).__name__))
