"""The settings of the issue hook, and the checks that it shares with webhooks."""

import base64
import binascii
import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, field_validator, model_validator
from pydantic_settings import NoDecode

from broker.domain.origin import is_loopback, origin
from broker.settings.access import AccessSettings
from broker.settings.fields import CommaSeparated, can_be_sent, networks, split_at_commas, with_quoted_user

SECRET_BYTES = range(24, 65)
"""The allowed sizes of a signing secret in bytes (Standard Webhooks specification, "Symmetric")."""


def _can_sign(value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
    if len(value) > 2:
        raise ValueError("should be one secret, or two during a rotation")
    for secret in value:
        encoded = secret.get_secret_value().removeprefix("whsec_")
        try:
            size = len(base64.b64decode(encoded, validate=True))
        except (binascii.Error, ValueError):
            size = 0
        if size not in SECRET_BYTES:
            raise ValueError("should be whsec_ and 24 to 64 random bytes in base64")
    return value


SigningSecrets = Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(split_at_commas), AfterValidator(_can_sign)]


def is_hook_address(url: str, *, loopback_http: bool) -> bool:
    """Return whether a URL is https without a user or a fragment; with `loopback_http`, also http on this machine."""
    if origin(url) is None or not can_be_sent(url):
        return False
    parts = urlsplit(url)
    return not parts.fragment and (parts.scheme == "https" or (loopback_http and is_loopback(url)))


class HookSettings(AccessSettings):
    """The settings of the issue hook. Durations are seconds; the docstring of a field is its description."""

    private_networks: CommaSeparated = ()
    """Private networks that webhooks and the issue hook may reach, comma-separated, such as `10.1.0.0/16`."""
    https_proxy: SecretStr | None = Field(default=None, validation_alias="HTTPS_PROXY")
    """The proxy for webhooks, the issue hook and BROKER_JWKS_URL, such as `http://proxy.internal:3128`. A `%` in
    its password is written `%25`."""
    no_proxy: CommaSeparated = Field(default=(), validation_alias="NO_PROXY")
    """The hosts, domains and networks that are reached without that proxy, comma-separated."""
    issue_hook_url: str | None = None
    """The https URL of the application that decides on each upload; unset: the rules and the quota alone decide."""
    issue_hook_secrets: SigningSecrets = ()
    """The secret that signs the questions to it, `whsec_…`; during a rotation two, comma-separated."""
    issue_hook_seconds: Annotated[float, Field(ge=0.1, le=30)] = 5
    """The timeout of its decision, a retry included; also of `on_issue` in a host application."""
    issue_hook_loopback_http: bool = False
    """Whether the issue hook may be http on this machine; for development."""

    @field_validator("private_networks")
    @classmethod
    def _networks_are_some(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return networks(value)

    @field_validator("https_proxy")
    @classmethod
    def _proxy_is_an_address(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and origin(re.sub(r"//.*@", "//", value.get_secret_value())) is None:
            raise ValueError("should be an http or https address, such as http://proxy.internal:3128")
        return value

    @property
    def proxy_url(self) -> str | None:
        """Return the URL of the egress proxy, or None if there is none."""
        return None if self.https_proxy is None else with_quoted_user(self.https_proxy.get_secret_value())

    @model_validator(mode="after")
    def _hook_is_safe(self) -> "HookSettings":
        if self.issue_hook_url is None:
            return self
        if not is_hook_address(self.issue_hook_url, loopback_http=self.issue_hook_loopback_http):
            raise ValueError(
                "BROKER_ISSUE_HOOK_URL: should be an https address in ASCII without a user, a fragment or spaces"
            )
        if not self.issue_hook_secrets:
            raise ValueError("BROKER_ISSUE_HOOK_SECRETS: should be set if BROKER_ISSUE_HOOK_URL is set")
        return self
