"""The definitions of all settings: defaults, limits and checks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import platformdirs
from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from scanner.detection.digests import Digester, hmac_sha256_digester, sha256_digest
from scanner.detection.patterns.token_formats import DEFAULT_FORMATS, TokenFormat, parse_formats
from scanner.records.database import parse_url
from scanner.records.states import EnforceMode, RuleMode
from scanner.settings.checks import (
    DEFAULT_SENDER,
    Email,
    HttpUrl,
    ProxyNetworks,
    check_broker_url,
    check_http_url,
    check_redis_url,
    check_smtp_url,
)
from scanner.settings.errors import SettingsError, reason
from scanner.settings.files import with_files, with_plain_token
from scanner.settings.names import PREFIX

GITHUB = "https://github.com"
ANONYMOUS_GIT_RATE, GIT_RATE, MAX_GIT_RATE = 2.0, 5.0, 100.0
"""Git requests a second to github.com: the first rate without a credential, the first rate with one, and the highest
rate.
"""
OWN_GIT_RATE = 1000.0
"""Git requests a second to a self-hosted installation, whose operator knows its limits."""
KNOWN_SOURCES = ("public_events", "repository_search", "new_repositories", "code_search", "gists", "event_archive")
GITHUB_HOSTS = (
    "https://gist.github.com",
    "https://gist.githubusercontent.com",
    "https://raw.githubusercontent.com",
    "https://uploads.github.com",
)
"""Hosts of github.com, besides the API and the website, that the service may fetch from."""
DEFAULT_SEARCH_QUERIES = (
    "REPLICATE_API_TOKEN",
    "REPLICATE_API_KEY",
    "replicate.Client api_token",
    "new Replicate auth",
    "api.replicate.com Authorization",
)


class Settings(BaseSettings):
    """The values of all settings. `repr` does not show secrets."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_file=None,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )

    state_dir: Path = Field(default_factory=lambda: platformdirs.user_state_path("r8scan"))
    """The folder for the database, the embedded Redis, the spool and mirrors. Only its owner may read it."""
    database_url: SecretStr = SecretStr("")
    """`postgresql://user:password@host/name` or `sqlite:////path`. The default is SQLite in the state folder."""
    redis_url: SecretStr = SecretStr("embedded")
    """`redis://`, `rediss://` or `redis+socket://`. `embedded` starts a Redis server in the state folder."""

    github_token: SecretStr | None = None
    """A token for the API and for git. Plain `GITHUB_TOKEN` works too."""
    github_api_url: HttpUrl = "https://api.github.com"
    """The address of GitHub's API."""
    github_web_url: HttpUrl = GITHUB
    """The address of GitHub's website, from which git content comes."""
    github_app_id: str | None = Field(default=None, pattern=r"^[A-Za-z0-9._-]{1,64}$")
    """The id of a GitHub App that is used instead of a token. Set all three settings of the App."""
    github_app_installation_id: int | None = Field(default=None, ge=1)
    """The id of the App's installation."""
    github_app_private_key: SecretStr | None = None
    """The private key of the App."""
    github_hosts: Annotated[tuple[str, ...], NoDecode] = ()
    """Hosts (or https://host:port) that the service may fetch from, besides those of the API and the website."""
    sources: Annotated[tuple[str, ...], NoDecode] = KNOWN_SOURCES
    """The sources that are polled, separated by commas."""
    events_poll_seconds: float | None = Field(default=None, ge=0.72, le=3600)
    """Seconds between two polls of page 1 of the event timeline, instead of GitHub's X-Poll-Interval. Set it only with
    GitHub's written consent. 5,000 requests an hour allow 0.72 s."""
    search_queries: Annotated[tuple[str, ...], NoDecode] = ()
    """Queries for code search, separated by semicolons.

    Each has at most 200 characters. The default is the prefix of each token format and, for the default format, words
    that often stand next to its tokens.
    """
    archive_url: HttpUrl | None = None
    """The address of hourly files of public events in GH Archive's format. Without it, the archive is not read."""

    smtp_url: SecretStr = SecretStr("")
    """`smtp://`, `smtp+starttls://` or `smtps://` with user and password, or `maildir:///path`. The default is a
    Maildir in the state folder."""
    email_from: Email = DEFAULT_SENDER
    """The sender of all mails. Recipients do not trust mails from the default sender."""
    email_bounces_to: Email | None = None
    """The envelope sender, to which servers return undeliverable mails. The default is `email_from`."""
    operator_email: Email | None = None
    """The mail address that receives messages about problems and decisions."""
    operator_webhook_url: HttpUrl | None = None
    """The address to which messages about problems and decisions are posted, with a signature."""
    operator_webhook_secret: SecretStr | None = Field(default=None, min_length=16)
    """The secret that signs the messages to `operator_webhook_url`."""
    operator_slack_url: SecretStr | None = None
    """An incoming webhook of Slack, or of a service that accepts the same JSON."""
    operator_summary_hours: int = Field(default=24, ge=0, le=168)
    """Hours between two summaries of incidents to the operator. None is sent if there was no incident. 0: never."""
    sentry_dsn: SecretStr | None = None
    """Errors of the log are also sent to this address of Sentry. Needs the extra `sentry`."""
    traces_url: HttpUrl | None = None
    """Traces of leaks are sent to this OpenTelemetry collector, by OTLP over HTTP. Needs the extra `traces`."""
    account_tokens_url: HttpUrl = "https://replicate.com/account/api-tokens"
    """The page on which owners make a new token. Mails ask them to type the address."""
    usage_url: HttpUrl | None = None
    """The page on which owners see how their tokens were used. Mails ask them to type the address."""
    vendor_name: str = Field(default="Replicate", min_length=1, max_length=80)
    """The name of the vendor in mails."""
    support_contact: str | None = Field(default=None, max_length=200)
    """The address of your support in mails."""
    logo_file: Path | None = None
    """An image that mails show above their headline."""
    email_templates_dir: Path | None = None
    """A folder of mail templates that replace the service's own."""
    mail_window: float = Field(default=10, ge=0, le=3600)
    """Seconds for which a new mail waits for more incidents of the same account."""
    mail_already_disabled: bool = False
    """Also send mails about tokens that their owners have disabled themselves but that are still public."""
    mail_rate: int = Field(default=600, ge=1, le=100_000)
    """Maximum number of mails a minute over all workers."""

    token_store_url: HttpUrl | None = None
    """The address of the vendor's own token store. Without it, the tokens are in the service's database."""
    token_store_secret: SecretStr | None = None
    """The bearer secret of the token store."""
    token_store_cert_file: Path | None = None
    """The client certificate for the token store."""
    token_store_key_file: Path | None = None
    """The key of the client certificate for the token store."""
    token_store_ca_file: Path | None = None
    """The certificate authority of the token store's own certificate."""

    token_store_canaries: bool = False
    """Whether the vendor's own token store implements the operation for canary tokens."""

    canaries: bool = True
    """Plant canary tokens, which test whether leaked tokens are found and disabled."""
    canary_minutes: int = Field(default=10, ge=2, le=1440)
    """Minutes between two canaries in the service's own queues."""
    canary_repository: str | None = Field(default=None, pattern=r"^[A-Za-z0-9-]{1,39}/[A-Za-z0-9._-]{1,100}$")
    """A public repository of your own, owner/name, in which canaries are planted. Needs `canary_github_token`."""
    canary_gist: str | None = Field(default=None, pattern=r"^[0-9a-f]{20,40}$")
    """The id of a public gist of your own, in which canaries are planted. Needs `canary_github_token`."""
    canary_github_token: SecretStr | None = None
    """A personal token that may write the canary repository and gist, and nothing else."""
    canary_public_hours: int = Field(default=6, ge=1, le=168)
    """Hours between two canaries in the repository or gist."""

    announce_redis_url: SecretStr | None = None
    """The Redis server with the stream `announce_stream`, from which gateways learn of disabled tokens. It is not the
    service's own Redis."""
    announce_stream: str = Field(default="r8scan:disabled", min_length=1, max_length=200)
    """The name of the stream in which disabled tokens are announced."""
    announce_webhook_url: HttpUrl | None = None
    """The address to which disabled tokens are announced, with a signature."""
    announce_webhook_secret: SecretStr | None = Field(default=None, min_length=16)
    """The secret that signs the announcements."""
    metrics_key: SecretStr | None = Field(default=None, min_length=16)
    """The key with which Prometheus scrapes `/metrics`. Without it, `/metrics` is off."""
    gateway_key: SecretStr | None = Field(default=None, min_length=16)
    """The key with which gateways fetch the list of disabled tokens over HTTP. Without the key, they cannot fetch
    it."""

    token_formats: Annotated[tuple[TokenFormat, ...], NoDecode] = DEFAULT_FORMATS
    """The format of a token, such as `r8_[0-9A-Za-z]{37}`. Separate several formats by commas."""
    enforce: EnforceMode = EnforceMode.DISABLE
    """`observe` disables nothing, and records what would have been done."""
    digest: Literal["sha256", "hmac-sha256"] = "sha256"
    """How the token store identifies tokens."""
    digest_key_file: Path | None = None
    """The file with the key of `hmac-sha256`."""

    git_rate: float | None = Field(default=None, ge=0.2, le=1000)
    """The number of git requests per second at the very first start.

    This rate rises while GitHub refuses no request. The default depends on the credential and on the installation.
    """
    git_max_rate: float | None = Field(default=None, ge=0.2, le=1000)
    """The highest rate of git requests a second."""
    max_remembered_repositories: int = Field(default=2_000_000, ge=1000, le=1_000_000_000)
    """Limit of the repositories for which the service remembers which commits were read.

    Above it, the repositories that have not been read for the longest time are forgotten.
    """
    scan_threads: int = Field(default=8, ge=1, le=64)
    """The number of pushes that one scanning process reads in parallel."""
    push_max_bytes: int = Field(default=32 * 1024 * 1024, ge=64 * 1024, le=1024**3)
    """Limit of the git pack of a push, in bytes.

    If a pack is larger, only a part of it is read, and the rest is recorded as unread.
    """
    queue_max_pushes: int = Field(default=100_000, ge=1000, le=10_000_000)
    """Limit of waiting pushes. Above it, the pushes that are least likely to contain a token are dropped and
    counted."""
    queue_max_files: int = Field(default=100_000, ge=1000, le=10_000_000)
    """Limit of waiting files of gists and code search. Above it, the oldest files are dropped and counted."""
    queue_max_repositories: int = Field(default=5000, ge=10, le=1_000_000)
    """Limit of waiting repositories that became public. Above it, the oldest repositories are dropped and counted."""
    max_sightings: int = Field(default=1_000_000, ge=1000, le=100_000_000)
    """Limit of stored candidates that the token store does not know (yet). Above it, the candidates that are least
    likely to be tokens are dropped and counted."""
    rescan_max_bytes: int = Field(default=20 * 1024**3, ge=1024**2)
    """Limit of a repository's clone in bytes. Above it, the rescan stops and is recorded as failed."""

    report_key: SecretStr | None = Field(default=None, min_length=16)
    """The key with which internal systems send reports or usage over HTTP. Without the key, they cannot send any."""
    brake_per_minute: int = Field(default=60, ge=0, le=1_000_000)
    """The number of tokens that may be disabled in one minute because of reports and usage rules.

    Further tokens wait for an operator.
    """

    usage_dormant: RuleMode = RuleMode.FLAG
    """The rule about a token that was not used for a long time and is used again. `flag` asks the operator, `disable`
    disables the token."""
    usage_dormant_days: int = Field(default=30, ge=1, le=3650)
    """Days without use after which a token counts as dormant."""
    usage_dormant_count: int = Field(default=100, ge=1)
    """The rule about dormant tokens applies if such a token is used at least this many times in one hour."""
    usage_spread: RuleMode = RuleMode.FLAG
    """The rule about a token that is used from many networks or countries."""
    usage_spread_networks: int = Field(default=30, ge=2, le=60)
    """The rule applies if a token is used from at least this many networks in one hour."""
    usage_spread_countries: int = Field(default=8, ge=2, le=30)
    """The rule also applies if a token is used from at least this many countries in one hour."""
    usage_listed: RuleMode = RuleMode.FLAG
    """The rule about a token that is used from a listed network."""
    usage_listed_file: Path | None = None
    """A file of networks in CIDR notation, one a line. # begins a comment."""
    usage_burst: RuleMode = RuleMode.FLAG
    """The rule about a token that is used much more than before."""
    usage_burst_factor: float = Field(default=20, ge=2, le=1_000_000)
    """The burst rule applies if a token is used this many times as often as before."""
    usage_burst_count: int = Field(default=1000, ge=1)
    """The burst rule does not apply if a token is used less often than this in an hour."""
    usage_burst_hours: int = Field(default=24, ge=1, le=10_000)
    """The burst rule applies only if the token was used in at least this many earlier hours."""
    usage_keep_days: int = Field(default=35, ge=2, le=400)
    """Days for which usage is kept."""

    keep_days: int = Field(default=730, ge=30, le=36_500)
    """Days for which incidents, mails and the audit log are kept."""

    web_host: str = Field(default="127.0.0.1", min_length=1, max_length=255)
    """The address on which `r8scan serve` listens."""
    web_port: int = Field(default=8080, ge=1, le=65535)
    """The port on which `r8scan serve` listens. A proxy in front of it terminates TLS."""
    web_trusted_proxies: ProxyNetworks | None = None
    """Proxies whose X-Forwarded-For is trusted: addresses or networks, separated by commas."""

    console: bool = True
    """Serve the console under `/console/`, for people who sign in."""
    console_password_hash: SecretStr | None = None
    """An argon2id hash from `r8scan console hash`. If it is set, the user `operator` can sign in without a database
    row.
    """
    console_url: HttpUrl | None = None
    """The public address of the console, such as https://r8scan.example.com. Identity providers lead back to it."""
    oidc_issuer: HttpUrl | None = None
    """The OpenID Connect provider by which people sign in to the console. Without it, they use passwords."""
    oidc_client_id: str | None = Field(default=None, min_length=1, max_length=255)
    """The id of this console at the provider."""
    oidc_client_secret: SecretStr | None = None
    """The secret of this console at the provider."""
    oidc_scopes: str = Field(default="openid profile email", pattern=r"^openid( [\x21\x23-\x5b\x5d-\x7e]+)*$")
    """The scopes that are requested of the provider."""
    oidc_role_claim: str = Field(default="groups", min_length=1, max_length=255)
    """The claim whose values decide the role. A dot selects a member of an object: `realm_access.roles`."""
    oidc_operators: Annotated[tuple[str, ...], NoDecode] = ()
    """Values of `oidc_role_claim` that give the role of an operator, separated by commas."""
    oidc_viewers: Annotated[tuple[str, ...], NoDecode] = ()
    """Values of `oidc_role_claim` that give the role of a viewer, separated by commas."""
    oidc_name_claim: str = Field(default="email", min_length=1, max_length=255)
    """The claim that names the person in the audit. If the claim is missing, the provider's id of the person is
    used.
    """
    console_session_hours: int = Field(default=12, ge=1, le=168)
    """Hours after which a session of the console ends, even if it is in use."""
    console_idle_minutes: int = Field(default=60, ge=5, le=1440)
    """Minutes without an action after which a session of the console ends. A page's own refresh is not an action."""

    alive_file: Path | None = None
    """A file that a live worker touches regularly, for the health check `python -m workers.alive`."""

    log_format: Literal["console", "json"] = "console"
    """`json` writes one object a line."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The lowest level of the lines that are written."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return where settings are read from, in the order of precedence."""
        del settings_cls, file_secret_settings
        return init_settings, with_files(env_settings), with_plain_token(with_files(dotenv_settings))

    @field_validator("sources", "github_hosts", "oidc_operators", "oidc_viewers", mode="before")
    @classmethod
    def _split_at_commas(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("state_dir", mode="before")
    @classmethod
    def _name_a_folder(cls, value: Any) -> Any:
        if value == "":  # it would mean the working folder, which would then be made private
            raise ValueError("must not be empty")
        if any(mark in str(value) for mark in "?#%"):  # in the database's URL, these would lead to another folder
            raise ValueError("must not contain ?, # or %: name another folder")
        return value

    @field_validator("search_queries", mode="before")
    @classmethod
    def _split_queries(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        queries = tuple(part.strip() for part in value.split(";") if part.strip())
        if not queries:
            raise ValueError("must be 1 to 50 queries of at most 200 printable characters, separated by ;")
        return queries

    @field_validator("token_formats", mode="before")
    @classmethod
    def _parse_formats(cls, value: Any) -> Any:
        return parse_formats(value) if isinstance(value, str) else value

    @field_validator("search_queries")
    @classmethod
    def _check_queries(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(value) > 50 or any(len(query) > 200 or not query.isprintable() for query in value):
            raise ValueError("must be 1 to 50 queries of at most 200 printable characters, separated by ;")
        return value

    @field_validator("github_hosts")
    @classmethod
    def _as_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(check_http_url(host if "://" in host else f"https://{host}") for host in value)

    @field_validator("sources")
    @classmethod
    def _know_sources(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [source for source in value if source not in KNOWN_SOURCES]
        if unknown:
            raise ValueError(f"knows no source {unknown[0]!r}; there are: {', '.join(KNOWN_SOURCES)}")
        return value

    @model_validator(mode="after")
    def _fill_in(self) -> Settings:
        # Set the defaults that depend on other settings. Normal assignment is impossible, because the model is frozen.
        if not self.database_url.get_secret_value():
            self._set("database_url", SecretStr(self.default_database_url))
        if not self.smtp_url.get_secret_value():
            self._set("smtp_url", SecretStr(f"maildir://{self.state_dir.absolute()}/mail"))
        if not self.search_queries:
            words = DEFAULT_SEARCH_QUERIES if self.token_formats == DEFAULT_FORMATS else ()
            prefixes = dict.fromkeys(form.prefix for form in self.token_formats)
            object.__setattr__(self, "search_queries", (*prefixes, *words))
        if not self.github_hosts and self.github_web_url == GITHUB:
            object.__setattr__(self, "github_hosts", GITHUB_HOSTS)
        app = (self.github_app_id, self.github_app_installation_id, self.github_app_private_key)
        if any(app) and not all(app):
            raise ValueError("R8SCAN_GITHUB_APP_ID, _INSTALLATION_ID and _PRIVATE_KEY belong together: set all three")
        if (self.canary_repository or self.canary_gist) and not self.canary_github_token:
            raise ValueError("R8SCAN_CANARY_GITHUB_TOKEN must be set: canaries are written with it")
        if self.announce_webhook_url and not self.announce_webhook_secret:
            raise ValueError("R8SCAN_ANNOUNCE_WEBHOOK_SECRET must be set: announcements by webhook are signed")
        if self.operator_webhook_url and not self.operator_webhook_secret:
            raise ValueError("R8SCAN_OPERATOR_WEBHOOK_SECRET must be set: what is posted to the operator is signed")
        if self.oidc_issuer and not (self.oidc_client_id and self.console_url):
            raise ValueError("R8SCAN_OIDC_ISSUER needs R8SCAN_OIDC_CLIENT_ID and R8SCAN_CONSOLE_URL: set them too")
        if self.oidc_issuer and not (self.oidc_operators or self.oidc_viewers):
            raise ValueError("R8SCAN_OIDC_OPERATORS or R8SCAN_OIDC_VIEWERS must name who may sign in to the console")
        if self.digest == "hmac-sha256" and self.digest_key_file is None:
            raise ValueError("R8SCAN_DIGEST_KEY_FILE must name the key's file when R8SCAN_DIGEST is hmac-sha256")
        checks = (
            ("DATABASE_URL", parse_url),
            ("REDIS_URL", check_broker_url),
            ("SMTP_URL", check_smtp_url),
            ("ANNOUNCE_REDIS_URL", check_redis_url),
        )
        for name, check in checks:
            value = getattr(self, name.lower())
            try:
                if value is not None:
                    check(value.get_secret_value())
            except ValueError as err:
                raise ValueError(f"{PREFIX}{name} {err}") from err
        return self

    def _set(self, name: str, value: SecretStr) -> None:
        object.__setattr__(self, name, value)

    def git_rates(self) -> tuple[float, float]:
        """Return the initial and the highest rate of git requests, per second."""
        if self.github_web_url != GITHUB:
            start = maximum = OWN_GIT_RATE
        else:
            has_credential = bool(self.github_token or self.github_app_id)
            start = GIT_RATE if has_credential else ANONYMOUS_GIT_RATE
            maximum = MAX_GIT_RATE
        start = self.git_rate or start
        maximum = self.git_max_rate or max(maximum, start)
        return min(start, maximum), maximum

    @property
    def polled_sources(self) -> tuple[str, ...]:
        """Return the sources that are switched on and configured."""
        return tuple(name for name in self.sources if name != "event_archive" or self.archive_url is not None)

    @property
    def default_database_url(self) -> str:
        """Return the URL of the default database, which is in the state folder."""
        return f"sqlite:///{self.state_dir.absolute()}/r8scan.db"

    @property
    def is_default_database(self) -> bool:
        """Return whether the database is the default one in the state folder."""
        return self.database_url.get_secret_value() == self.default_database_url

    def digester(self) -> Digester:
        """Return the function that hashes tokens: SHA-256, or HMAC-SHA-256 with the operator's key.

        Raises:
            SettingsError: The file with the hash key cannot be read.
        """
        if self.digest == "sha256":
            return sha256_digest
        assert self.digest_key_file is not None  # noqa: S101 - checked when the settings were read
        try:
            return hmac_sha256_digester(self.digest_key_file.read_bytes().strip())
        except (OSError, ValueError) as err:
            raise SettingsError(f"{PREFIX}DIGEST_KEY_FILE: cannot read the key from it ({reason(err)})") from err
