"""The settings of access: tokens, rate limits, and origins."""

import re
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from broker.domain.access.jws import KEY_TYPES, SECRET_BYTES, Algorithm
from broker.domain.access.rate import rate_of
from broker.domain.origin import is_loopback, origin
from broker.errors import SettingsInvalid
from broker.settings.fields import (
    CommaSeparated,
    Positive,
    bare_address,
    networks,
    page_origins,
    require_extra,
    split_at_commas,
    with_quoted_user,
)

MIN_SECRET_BYTES = SECRET_BYTES["HS256"]
MIN_SECRET_CHARACTERS = 8
"""The minimum number of different characters: 32 random hex digits have more, a repeated word has fewer."""
STORAGE = re.compile(
    r"memory://|(redis|valkey)s?://.|(redis|valkey)s?\+cluster://[^/]+:\d+/?$|"
    r"(redis|valkey)s?\+sentinel://[^/]+:\d+/[^/?#]+$|(redis|valkey)\+unix:///."
)
"""The storages of rate limits, as the library `limits` writes them; `s` stands for TLS."""
HEADER_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""The names that headers have in practice; RFC 9110, section 5.1, allows a few more characters, `*` among them."""


def _has_ports(storage: str) -> bool:
    """Return whether each host of a storage has a port that exists, or none."""
    try:
        hosts = urlsplit(storage).netloc.rpartition("@")[2].split(",")
        return all(urlsplit(f"//{host}").port != 0 for host in hosts)
    except ValueError:
        return False


Permission = Literal["media:upload", "media:read", "media:delete", "media:delegate", "media:admin"]
Permissions = Annotated[tuple[Permission, ...], NoDecode, BeforeValidator(split_at_commas)]


class AccessSettings(BaseSettings):
    """The settings of access. Durations are seconds; the docstring of a field is its description."""

    model_config = SettingsConfigDict(
        extra="ignore",
        frozen=True,
        populate_by_name=True,
        use_attribute_docstrings=True,
        hide_input_in_errors=True,
        defer_build=True,  # only `Settings`, which has all fields, is built
    )

    # Tokens.
    secret_key: SecretStr = Field(default=SecretStr(""), validation_alias="SECRET_KEY")
    """The secret that verifies HS256 tokens and signs the state of plain forms; at least 32 random bytes."""
    jwt_algorithm: Algorithm | None = None
    """The only accepted algorithm of tokens. Unset: RS256 if a JWKS address or a public key is set, otherwise HS256."""
    jwks_url: str | None = None
    """The https URL at which the identity provider publishes its keys."""
    jwks_http: bool = False
    """Whether BROKER_JWKS_URL may be http, inside a network that you trust; who controls it can forge every token."""
    jwks_loopback_http: bool = False
    """Whether BROKER_JWKS_URL may be http on the loopback interface; for tests."""
    jwks_fresh_seconds: Positive = 600
    """How long published keys are cached. A withdrawn key stays valid for this time and BROKER_TOKEN_MEMORY_SECONDS
    together, and for a day while the address does not answer."""
    jwt_public_key: str | None = None
    """The PEM public key that verifies tokens, or the path of its file, if there is no JWKS URL."""
    jwt_issuer: CommaSeparated = ()
    """The issuers (`iss`) whose tokens are accepted, comma-separated."""
    jwt_audience: CommaSeparated = ()
    """The audiences whose tokens are accepted, comma-separated; a token names at least one of them."""
    jwt_audience_claim: str = "aud"
    """The claim that names the audience; `client_id` for Cognito's access tokens."""
    jwt_leeway_seconds: Annotated[int | None, Field(ge=0, le=300)] = None
    """The allowed clock skew for `iat`, `nbf` and `exp`. Unset: 5 seconds for `iat` and `nbf`, none for `exp`."""
    jwt_owner_claim: str = "sub"
    """The claim that names the owner, alone required then; `oid` for users of Entra across applications."""
    jwt_permission_claims: CommaSeparated = ("scope", "scp", "permissions")
    """The claims that list permissions, comma-separated; also as a path, such as `resource_access.my.app.roles`."""
    jwt_permission_prefix: str = ""
    """The prefix of each permission in a token, such as `https://api.example/`."""
    jwt_default_permissions: Permissions = ()
    """The permissions of a token without any of these claims, comma-separated; none by default."""
    token_memory_seconds: Annotated[int, Field(ge=0, le=3600)] = 60
    """How long a verified token is cached, never beyond its expiry; one by a withdrawn key works for this time more. 0:
    every request verifies its token."""
    token_memory_size: Annotated[int, Field(ge=0)] = 10_000
    """The maximum number of verified tokens in one process's cache."""

    # Rate limits.
    rate_limit_storage: SecretStr = SecretStr("memory://")
    """The storage of the counters: `memory://` for each process on its own; `redis://…`, `rediss://…`,
    `redis+cluster://…` or `redis+sentinel://…` to share it; also with `valkey` in place of `redis`. A `%` in its
    password is written `%25`."""
    rate_limit_address: str = "1200/minute"
    """Requests per address, with or without a valid token; `off`, here and below, sets no limit."""
    rate_limit_issue: str = "60/minute"
    """Uploads issued per owner."""
    rate_limit_complete: str = "120/minute"
    """Completions per owner."""
    rate_limit_parts: str = "240/minute"
    """Requests for the parts of resumable uploads per owner."""
    rate_limit_playback: str = "600/minute"
    """Links and lists per owner."""
    rate_limit_delete: str = "120/minute"
    """Deletions per owner."""
    rate_limit_form: str = "60/minute"
    """Returns from plain forms per address."""
    rate_limit_health: str = "60/minute"
    """Requests for the health of S3 per address."""

    # Origins and addresses.
    cors_origins: CommaSeparated = ()
    """The origins whose pages may call the broker, comma-separated; also `capacitor://localhost` (hybrid apps) and
    `https://*.preview.example` (one label)."""
    cors_headers: CommaSeparated = ()
    """Further request headers that these pages may send, comma-separated; those of tracing are allowed anyway."""
    allowed_hosts: CommaSeparated = ()
    """The values of Host that are served, comma-separated, also as `*.example.com`; unset: any."""
    trusted_proxies: CommaSeparated = ()
    """The addresses or networks of proxies whose headers name the client and the scheme, comma-separated."""
    proxy_headers: Literal["either", "x-forwarded", "forwarded"] = "either"
    """The headers that these proxies set: X-Forwarded-For and -Proto, or RFC 7239's Forwarded; name yours."""
    public_url: str | None = None
    """The broker's URL as clients see it, such as `https://api.example`; unset: taken from the request's Host."""

    @property
    def redis_url(self) -> str | None:
        """Return the URL of the Redis that counts for all processes, or None if each process counts on its own."""
        storage = self.rate_limit_storage.get_secret_value()
        return None if storage.startswith("memory:") else with_quoted_user(storage)

    @property
    def algorithm(self) -> str:
        """Return the only accepted algorithm of tokens."""
        return self.jwt_algorithm or ("RS256" if self.jwks_url or self.jwt_public_key else "HS256")

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource, *_: Any, **__: Any
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take what is given alone: `load_settings` reads the environment, and names each variable that it cannot."""
        return (init_settings,)

    @field_validator("secret_key")
    @classmethod
    def _secret_is_long(cls, value: SecretStr) -> SecretStr:
        secret = value.get_secret_value()
        if len(secret.encode()) < MIN_SECRET_BYTES or len(set(secret)) < MIN_SECRET_CHARACTERS:
            raise ValueError(f"should be a random secret of at least {MIN_SECRET_BYTES} bytes; `broker init` makes one")
        return value

    @field_validator("jwks_url")
    @classmethod
    def _keys_have_an_address(cls, value: str | None) -> str | None:
        if value is not None and origin(value) is None:
            raise ValueError("should be an https address")
        return value

    @field_validator("cors_origins")
    @classmethod
    def _cors_origins_are_of_pages(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return page_origins(value)

    @field_validator("cors_headers")
    @classmethod
    def _cors_headers_are_names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not all(HEADER_NAME.fullmatch(name) for name in value):
            raise ValueError("should be names of request headers, such as X-Shop,X-App-Version, without *")
        return value

    @field_validator("allowed_hosts")
    @classmethod
    def _hosts_are_bare(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for host in value:
            bare = host.removeprefix("*.")
            if host != host.lower() or not bare or any(character in bare for character in "*/:@ "):
                raise ValueError("should be host names in lower case without a port, such as api.example,*.example.com")
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _proxies_are_addresses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return networks(value)

    @field_validator("public_url")
    @classmethod
    def _public_address_is_bare(cls, value: str | None) -> str | None:
        return bare_address(value)

    @field_validator("rate_limit_storage")
    @classmethod
    def _storage_is_known(cls, value: SecretStr) -> SecretStr:
        storage = with_quoted_user(value.get_secret_value())
        if not STORAGE.match(storage) or not _has_ports(storage):
            raise ValueError(
                "should be memory://, redis://host:port or rediss://host:port; also redis+cluster://host:port,… "
                "and redis+sentinel://host:port,host:port/service, each with rediss or valkey too"
            )
        if not storage.startswith("memory:"):
            for package in ("redis", "limits"):
                require_extra("redis", package=package)
        return value

    @field_validator(
        "rate_limit_address",
        "rate_limit_issue",
        "rate_limit_complete",
        "rate_limit_parts",
        "rate_limit_playback",
        "rate_limit_delete",
        "rate_limit_form",
        "rate_limit_health",
    )
    @classmethod
    def _limit_is_readable(cls, value: str) -> str:
        rate_of(value)
        return value

    @model_validator(mode="after")
    def _one_source_of_keys(self) -> "AccessSettings":
        by_public_key = bool(self.jwks_url) or bool(self.jwt_public_key)
        if self.jwks_url and self.jwt_public_key:
            raise ValueError("BROKER_JWKS_URL, BROKER_JWT_PUBLIC_KEY: should not both be set")
        if by_public_key and self.algorithm in SECRET_BYTES:
            raise ValueError(f"BROKER_JWT_ALGORITHM: should be {', '.join(KEY_TYPES)} if a public key or JWKS is set")
        if not by_public_key and self.algorithm not in SECRET_BYTES:
            raise ValueError(f"BROKER_JWKS_URL: should be set for {self.algorithm}, or BROKER_JWT_PUBLIC_KEY")
        least = SECRET_BYTES.get(self.algorithm, 0)
        if len(self.secret_key.get_secret_value().encode()) < least:
            raise ValueError(f"SECRET_KEY: should be a random secret of at least {least} bytes for {self.algorithm}")
        may_be_http = self.jwks_http or (self.jwks_loopback_http and is_loopback(self.jwks_url or ""))
        if self.jwks_url and not self.jwks_url.startswith("https://") and not may_be_http:
            raise ValueError("BROKER_JWKS_URL: should be an https address; BROKER_JWKS_HTTP=true allows http")
        return self

    @model_validator(mode="after")
    def _public_key_is_readable(self) -> "AccessSettings":
        if self.jwt_public_key is not None:
            from broker.api.auth.keys import public_key  # loads PyJWT and cryptography

            try:
                public_key(self.jwt_public_key, self.algorithm)
            except SettingsInvalid as error:
                raise ValueError(str(error)) from None
        return self
