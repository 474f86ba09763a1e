"""The variables of the environment: from files, Kubernetes, AWS's tools, and a `.env` in any encoding."""

import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from pydantic import SecretStr

import broker
from broker.api.limits.redis_storage import open_storage
from broker.errors import SettingsInvalid
from broker.settings import Settings, environment_name, load_database_settings, load_settings, unknown_variables
from broker.settings.fields import with_quoted_user
from broker.wiring import webhook_sender
from broker.worker.sender import Sender

SECRET = "a secret of at least thirty-two bytes"
VALID = {"SECRET_KEY": SECRET, "AWS_S3_BUCKET_NAME": "videos"}
SECRETS = ("SECRET_KEY", "AWS_SECRET_ACCESS_KEY", "BROKER_DATABASE_URL", "BROKER_RATE_LIMIT_STORAGE")


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [*map(environment_name, Settings.model_fields), "AWS_REGION", "AWS_DEFAULT_REGION"]:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(f"{name}_FILE", raising=False)
    monkeypatch.chdir(tmp_path)


def load(monkeypatch: pytest.MonkeyPatch, **variables: str) -> Settings:
    """Return the settings of an environment with these variables."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return load_settings()


def problems(monkeypatch: pytest.MonkeyPatch, **variables: str) -> list[str]:
    """Return the lines by which the settings are refused."""
    with pytest.raises(SettingsInvalid) as refusal:
        load(monkeypatch, **variables)
    return str(refusal.value).splitlines()


@pytest.mark.parametrize("value", ["tcp://10.96.14.2:9100", "udp://[fd00::2]:53", "sctp://10.96.14.2:9100"])
@pytest.mark.parametrize("name", ["BROKER_WORKER_METRICS_PORT", "BROKER_PORT", "broker_port"])
def test_what_kubernetes_sets_for_a_service_is_no_setting(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    assert load(monkeypatch, **VALID | {name: value}) == load_settings(secret_key=SECRET, bucket_name="videos")


@pytest.mark.parametrize(
    "name", ["SECRET_KEY", "BROKER_RATE_LIMIT_STORAGE", "BROKER_DATABASE_URL", "BROKER_PROBE", "BROKER_PUBLIC_URL"]
)
def test_a_value_of_the_form_of_a_service_is_no_other_setting(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (line,) = problems(monkeypatch, **VALID | {name: "tcp://redis:6379"})
    assert line.startswith(f"{name}: ")


@pytest.mark.parametrize(
    ("variables", "region"),
    [
        ({"AWS_REGION": "eu-west-1"}, "eu-west-1"),
        ({"AWS_DEFAULT_REGION": "eu-west-2"}, "eu-west-2"),
        ({"AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "eu-west-2"}, "eu-west-1"),
        ({"AWS_S3_REGION": "eu-north-1", "AWS_REGION": "eu-west-1"}, "eu-north-1"),
        ({}, "us-east-1"),
    ],
)
def test_the_region_is_that_of_the_tools_of_aws(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], region: str
) -> None:
    assert load(monkeypatch, **VALID | variables).region == region


def test_each_setting_can_be_read_from_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    values = {
        "SECRET_KEY": SECRET,
        "AWS_SECRET_ACCESS_KEY": "of another",
        "BROKER_DATABASE_URL": "postgresql://ann:pass@db.example/broker",
        "BROKER_RATE_LIMIT_STORAGE": "redis://:pass@redis.example",
        "BROKER_WEBHOOK_SECRETS": "whsec_" + "c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0",
        "BROKER_POLICY_SECONDS": "60",
    }
    for name, value in values.items():
        (tmp_path / name).write_text(f"{value}\n")
        monkeypatch.setenv(f"{name}_FILE", str(tmp_path / name))
    settings = load(monkeypatch, AWS_S3_BUCKET_NAME="videos", AWS_ACCESS_KEY_ID="AKIAIOSFODNN7EXAMPLE")
    assert settings.secret_key.get_secret_value() == SECRET
    assert settings.credentials is not None
    assert settings.credentials.secret_key == "of another"
    assert (settings.database_url, settings.redis_url) == (
        values["BROKER_DATABASE_URL"],
        values["BROKER_RATE_LIMIT_STORAGE"],
    )
    assert settings.policy_seconds == 60
    assert len(settings.webhook_secrets) == 1


def test_a_file_that_cannot_be_read_is_named_with_the_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    (tmp_path / "both").write_text(SECRET)
    named = problems(
        monkeypatch,
        **VALID,
        SECRET_KEY_FILE=str(tmp_path / "both"),
        BROKER_DATABASE_URL_FILE=str(tmp_path / "absent"),
        BROKER_PUBLIC_URL_FILE=str(tmp_path / "binary"),
        MAX_FILE_SIZE="many",
    )
    assert {
        "SECRET_KEY, SECRET_KEY_FILE: should not both be set",
        "BROKER_DATABASE_URL_FILE: cannot be read: No such file or directory",
        "BROKER_PUBLIC_URL_FILE: should name a file in UTF-8",
    } <= set(named)
    assert any(line.startswith("MAX_FILE_SIZE: ") for line in named)


def test_a_file_of_variables_in_another_encoding_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes("AWS_S3_BUCKET_NAME=videos\n# für Uploads\n".encode("latin-1"))
    assert problems(monkeypatch, **VALID) == [".env: should be in UTF-8; line 2 is not"]


def test_a_file_of_variables_may_begin_with_a_byte_order_mark(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("AWS_S3_BUCKET_NAME=für-videos\nBROKER_POLICY_SECONDS=60\n", "utf-8-sig")
    assert load(monkeypatch, **VALID).policy_seconds == 60


PASSWORDS = ["a[b", "a]b", "[::1]", "a/b?c#d", "a@b:c", "100%25", "77/x9"]


@pytest.mark.parametrize("password", PASSWORDS)
def test_a_password_may_hold_any_character(monkeypatch: pytest.MonkeyPatch, password: str) -> None:
    settings = load(monkeypatch, **VALID, BROKER_DATABASE_URL=f"postgresql://ann:{password}@db.example/broker")
    assert password in settings.secrets()


@pytest.mark.parametrize("password", PASSWORDS)
@pytest.mark.parametrize("kind", ["redis", "rediss", "redis+cluster", "redis+sentinel"])
def test_the_password_of_a_redis_may_hold_any_character(
    monkeypatch: pytest.MonkeyPatch, kind: str, password: str
) -> None:
    hosts = "a.example:7000,b.example:7001" if "+" in kind else "a.example:7000"
    address = f"{kind}://ann:{password}@{hosts}/0"
    if kind == "redis+cluster":
        address = address.removesuffix("/0")
    settings = load(monkeypatch, **VALID, BROKER_RATE_LIMIT_STORAGE=address)
    storage = open_storage(settings.redis_url or "")
    pool: Any = storage.options.get("connection_pool")
    known = storage.bridge.parsed_auth if pool is None else pool.connection_kwargs
    assert (known["username"], known["password"]) == ("ann", unquote(password))


@pytest.mark.parametrize("password", PASSWORDS)
def test_the_password_of_a_proxy_may_hold_any_character(monkeypatch: pytest.MonkeyPatch, password: str) -> None:
    settings = load(monkeypatch, **VALID, HTTPS_PROXY=f"http://ann:{password}@proxy.example:3128")
    parts = urlsplit(settings.proxy_url or "")
    assert (parts.hostname, parts.port) == ("proxy.example", 3128)
    assert (parts.username, unquote(parts.password or "")) == ("ann", unquote(password))
    assert isinstance(webhook_sender(settings), Sender)


@pytest.mark.parametrize(
    ("url", "quoted"),
    [
        ("redis://broker:77/x9@redis.internal:6379/0", "redis://broker:77%2Fx9@redis.internal:6379/0"),
        ("http://user:80/x@proxy:3128", "http://user:80%2Fx@proxy:3128"),
        ("http://us/er:x@proxy:3128", "http://us%2Fer:x@proxy:3128"),
        ("http://user:80?x@proxy", "http://user:80%3Fx@proxy"),
        ("http://user:100%25@proxy:3128", "http://user:100%25@proxy:3128"),
        ("redis://redis.internal:6379/0", "redis://redis.internal:6379/0"),
        ("http://proxy:port", "http://proxy:port"),
    ],
)
def test_a_user_is_quoted_where_a_url_could_not_be_split_otherwise(url: str, quoted: str) -> None:
    assert with_quoted_user(url) == quoted


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("BROKER_QUOTA_MEDIA", "BROKER_QUOTA_MEDIA_COUNT"),
        ("BROKER_JWT_ISUER", "BROKER_JWT_ISSUER"),
        ("BROKER_JWT_ISUER_FILE", "BROKER_JWT_ISSUER_FILE"),
        ("BROKER_MAX_FILE_SIZE", "MAX_FILE_SIZE"),
        ("BROKER_SECRET_KEY", "SECRET_KEY"),
        ("BROKER_WORKER_METRIC_PORT", "BROKER_WORKER_METRICS_PORT"),
        ("BROKER_COLOUR", None),
    ],
)
@pytest.mark.parametrize("source", ["environment", ".env", "in lower case"])
def test_a_variable_that_nothing_reads_is_named_with_the_setting_that_is_meant(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, meant: str | None, source: str
) -> None:
    if source == ".env":
        (tmp_path / ".env").write_text(f"{name}=5\n")
    else:
        monkeypatch.setenv(name.lower() if source == "in lower case" else name, "5")
    assert unknown_variables() == {name: meant}


def test_a_variable_that_is_read_or_of_a_service_is_not_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    link = "tcp://10.96.14.2:8000"
    of_services = {
        **{f"BROKER{each}_SERVICE_HOST": "10.96.14.2" for each in ("", "_WORKER")},
        **{f"BROKER{each}_SERVICE_PORT": "8000" for each in ("", "_WORKER")},
        **{f"BROKER{each}_SERVICE_PORT_HTTP_API": "8000" for each in ("", "_WORKER")},
        **{f"BROKER{each}_PORT": link for each in ("", "_WORKER")},
        **{f"BROKER{each}_PORT_8000_TCP": link for each in ("", "_WORKER")},
        **{
            f"BROKER{each}_PORT_8000_TCP_{part}": "tcp"
            for each in ("", "_WORKER")
            for part in ("PROTO", "PORT", "ADDR")
        },
    }
    settings = {environment_name(field): "5" for field in Settings.model_fields}
    files = {f"{name}_FILE": "secret.txt" for name in settings}
    for name, value in (of_services | settings | files).items():
        monkeypatch.setenv(name, value)
    assert unknown_variables() == {}


def test_a_variable_of_a_command_is_not_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    read = set(re.findall(r"""["'](BROKER_[A-Z0-9_]+)["']""", _sources("cli", "dev")))
    assert read >= {"BROKER_URL", "BROKER_TOKEN", "BROKER_UPLOAD_STATE", "BROKER_DEV_S3_KEYS"}
    for name in read:
        monkeypatch.setenv(name, "5")
    assert unknown_variables() == {}


def _sources(*folders: str) -> str:
    """Return the source of these packages."""
    root = Path(broker.__file__).parent
    return "".join(file.read_text("utf-8") for folder in folders for file in sorted((root / folder).rglob("*.py")))


def test_settings_take_what_is_given_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"AWS_REGION": "eu-west-1", "AWS_S3_REGION": "eu-west-2", "BROKER_POLICY_SECONDS": "60"}.items():
        monkeypatch.setenv(name, value)
    given = Settings(secret_key=SecretStr(SECRET), bucket_name="videos")
    assert (given.region, given.policy_seconds) == ("us-east-1", 900)
    assert load_settings(secret_key=SECRET, bucket_name="videos").region == "eu-west-2"


RSA_KEY = rsa.generate_private_key(65537, 2048)
PRIVATE = RSA_KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
PUBLIC = RSA_KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
ELLIPTIC = (
    ec.generate_private_key(ec.SECP256R1()).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
)
ARN = "arn:aws:s3:eu-west-1:123456789012:accesspoint/videos"
CLOUDFRONT = {"BROKER_CLOUDFRONT_URL": "https://media.example", "BROKER_CLOUDFRONT_KEY_ID": "K1"}


@pytest.mark.parametrize("form", ["as it is", "in one line", "in a file", "in a file, by its variable"])
@pytest.mark.parametrize(
    ("name", "pem"), [("BROKER_JWT_PUBLIC_KEY", PUBLIC), ("BROKER_CLOUDFRONT_PRIVATE_KEY", PRIVATE)]
)
def test_a_key_in_pem_form_is_read_in_each_way(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, pem: str, form: str
) -> None:
    (tmp_path / "key.pem").write_text(pem)
    path = str(tmp_path / "key.pem")
    variables = {
        "as it is": {name: pem},
        "in one line": {name: pem.replace("\n", "\\n")},
        "in a file": {name: path},
        "in a file, by its variable": {f"{name}_FILE": path},
    }[form]
    settings = load(monkeypatch, **VALID, **CLOUDFRONT if "CLOUDFRONT" in name else {}, **variables)
    if settings.cloudfront is not None:
        assert settings.cloudfront[2].strip() == pem.strip()
    else:
        assert settings.algorithm == "RS256"


@pytest.mark.parametrize(
    ("variables", "problem"),
    [
        ({"BROKER_JWT_PUBLIC_KEY": "absent.pem"}, "BROKER_JWT_PUBLIC_KEY: should be a PEM public key, or the path of"),
        ({"BROKER_JWT_PUBLIC_KEY": ELLIPTIC.decode()}, "BROKER_JWT_PUBLIC_KEY: should be a key for RS256"),
        (
            {"AWS_S3_BUCKET_NAME": "arn:aws:s3:eu-west-1:123456789012:accesspoint/videos"},
            "AWS_S3_BUCKET_NAME: should be",
        ),
        ({"AWS_S3_BUCKET_NAME": "s3://videos"}, "AWS_S3_BUCKET_NAME: should be the name of a bucket"),
        ({"BROKER_JWKS_URL": "http://keycloak.auth.svc/certs"}, "BROKER_JWKS_URL: should be an https address"),
        ({"BROKER_WEBHOOK_URLS": "https://[x"}, "BROKER_WEBHOOK_URLS: should be https addresses"),
    ],
)
def test_what_can_be_known_from_the_settings_alone_is_refused(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], problem: str
) -> None:
    (line,) = problems(monkeypatch, **VALID | variables)
    assert line.startswith(problem)


def test_keys_may_be_published_over_http_by_an_explicit_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "http://keycloak.auth.svc/certs"
    assert load(monkeypatch, **VALID, BROKER_JWKS_URL=url, BROKER_JWKS_HTTP="true").jwks_url == url


def test_a_migration_needs_no_key_that_its_environment_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKER_JWT_PUBLIC_KEY", "absent.pem")
    monkeypatch.setenv("BROKER_CLOUDFRONT_URL", "https://media.example")
    assert load_database_settings().database_url == "sqlite:///broker.db"
