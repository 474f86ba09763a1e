"""The settings: sources, precedence, and messages that name invalid settings without quoting values."""

import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

from broker.errors import SettingsInvalid
from broker.settings import Settings, environment_name, load_settings

ROOT = Path(__file__).resolve().parents[2]
VALID = {"SECRET_KEY": "a secret of at least thirty-two bytes", "AWS_S3_BUCKET_NAME": "videos"}


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(environment_name(name), raising=False)
    monkeypatch.chdir(tmp_path)


def _set(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def test_two_settings_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    _set(monkeypatch, VALID)
    settings = load_settings()
    assert (settings.bucket_name, settings.max_file_size, settings.credentials) == ("videos", 100_000_000, None)
    assert (settings.rules.max_duration_seconds, settings.rules.max_size) == (300, 100_000_000)


@pytest.mark.parametrize(
    ("name", "value", "should"),
    [
        ("SECRET_KEY", "x" * 31, "should be a random secret of at least 32 bytes"),
        ("SECRET_KEY", "", "should be a random secret of at least 32 bytes"),
        ("AWS_S3_BUCKET_NAME", "", "should be the name of the bucket (or set USE_CLOUD_STORAGE=false)"),
        ("AWS_S3_REGION", "EU", "should be a region's name, such as eu-central-1"),
        ("AWS_SECRET_ACCESS_KEY", "without-its-id", "should be set if and only if AWS_ACCESS_KEY_ID is set"),
        ("AWS_CREDENTIAL_EXPIRATION", "soon", "Input should be a valid datetime"),
        ("USE_CLOUD_STORAGE", "perhaps", "Input should be a valid boolean"),
        ("CLOUD_STORAGE_PROVIDER", "r2", "should be a store that supports POST policies"),
        ("CLOUD_STORAGE_PROVIDER", "gcs", "should be aws, or s3 for another store"),
        ("BROKER_DATABASE_SCHEMA", "broker", "should be unset with SQLite, which has no schemas"),
        ("MAX_FILE_SIZE", "100MB", "Input should be a valid integer"),
        ("MAX_FILE_SIZE", "0", "Input should be greater than or equal to 1"),
        ("MAX_FILE_SIZE", str(10_000 * 5 * 1024**3 + 1), "Input should be less than or equal to 53687091200000"),
        ("BROKER_PART_SIZE", str(5 * 1024**2 - 1), "Input should be greater than or equal to 5242880"),
        ("BROKER_PART_SIZE", str(5 * 1024**3 + 1), "Input should be less than or equal to 5368709120"),
        ("BROKER_RESUMABLE_SECONDS", "59", "Input should be greater than or equal to 60"),
        ("MAX_VIDEO_DURATION_SECONDS", "-1", "Input should be greater than or equal to 1"),
        (
            "BROKER_ALLOWED_TYPES",
            "mp4",
            "should be full types in lower case, such as video/mp4,video/webm",
        ),
        (
            "BROKER_ALLOWED_TYPES",
            "video/*",
            "should be full types in lower case, such as video/mp4,video/webm",
        ),
        (
            "BROKER_ALLOWED_TYPES",
            ",",
            "should be full types in lower case, such as video/mp4,video/webm",
        ),
        ("BROKER_POLICY_SECONDS", "3601", "Input should be less than or equal to 3600"),
        ("BROKER_GRACE_SECONDS", "-1", "Input should be greater than or equal to 0"),
        ("BROKER_WEBHOOK_URLS", "https://a.example/,https://a.example/", "should name each address once"),
        *(
            ("BROKER_WEBHOOK_URLS", url, "should be https addresses in ASCII without a user, a fragment or spaces")
            for url in ("https://h.example/höök", "https://h.example/a b", "https://h.example/?key=\x7f")
        ),
        *(
            (f"BROKER_{name}", f"https://h.example/{path}", "should be an http or https address")
            for name in ("S3_ENDPOINT_URL", "S3_PUBLIC_ENDPOINT_URL", "PUBLIC_URL", "SQS_QUEUE_URL")
            for path in ("größe", "a b")
        ),
        ("BROKER_ISSUE_HOOK_URL", "https://h.example/höök", "should be an https address in ASCII"),
        ("BROKER_CORS_ORIGINS", "*", "should be exact origins, such as https://app.example, without a path or *"),
        ("BROKER_CORS_ORIGINS", "https://app.example/", "should be exact origins"),
        *(
            ("BROKER_CORS_ORIGINS", origin, "should be exact origins, such as https://app.example")
            for origin in (
                "null",
                "https://*",
                "https://*.example",
                "https://*.*.preview.example",
                "https://app-*.preview.example",
                "https://app.*.preview.example",
                "http://*.preview.example",
                "https://*.preview.example:443",
                "https://*.preview.example/",
                "https://*.-.example",
                "file://localhost",
                "ws://localhost",
                "capacitor://*",
                "capacitor://",
                "capacitor://localhost/",
                "localhost",
            )
        ),
        ("BROKER_OBJECT_TAGS", "shop", "should be up to 10 different tags, such as project=shop,team=video"),
        ("BROKER_OBJECT_TAGS", "a=1,a=2", "should be up to 10 different tags"),
        ("BROKER_OBJECT_TAGS", "aws:a=1", "should be up to 10 different tags"),
        ("BROKER_OBJECT_TAGS", ",".join(f"t{number}=1" for number in range(11)), "should be up to 10 different tags"),
        ("BROKER_OBJECT_STORAGE_CLASS", "GLACIER", "Input should be 'STANDARD', 'STANDARD_IA', 'ONEZONE_IA'"),
        ("BROKER_OBJECT_ENCRYPTION", "aes", "Input should be 'AES256', 'aws:kms' or 'aws:kms:dsse'"),
        ("BROKER_OBJECT_CACHE_CONTROL", "a\nb", "String should match pattern"),
        ("BROKER_CORS_HEADERS", "*", "should be names of request headers"),
        ("BROKER_CORS_HEADERS", "X-Shop: 1", "should be names of request headers"),
        ("BROKER_REDIRECT_ORIGINS", "app.example", "should be exact origins"),
        ("BROKER_REDIRECT_ORIGINS", "capacitor://localhost", "should be exact origins"),
        ("BROKER_REDIRECT_ORIGINS", "https://*.preview.example", "should be exact origins"),
        ("BROKER_PUBLIC_URL", "api.example", "should be an http or https address"),
        ("BROKER_S3_ENDPOINT_URL", "s3://bucket", "should be an http or https address"),
        ("BROKER_S3_TIMEOUT_SECONDS", "0", "Input should be greater than 0"),
        ("BROKER_QUOTA_PENDING_COUNT", "-1", "Input should be greater than or equal to 0"),
        ("BROKER_DATABASE_URL", "mysql://127.0.0.1/broker", "should be sqlite:///file or postgresql://user@host/name"),
        ("BROKER_DATABASE_URL", "sqlite://", "should be sqlite:///file or postgresql://user@host/name"),
        (
            "BROKER_RATE_LIMIT_STORAGE",
            "memcached://127.0.0.1",
            "should be memory://, redis://host:port or rediss://host:port",
        ),
        *(
            ("BROKER_RATE_LIMIT_STORAGE", storage, "should be memory://, redis://host:port or rediss://host:port")
            for storage in (
                "redis://127.0.0.1:port",
                "redis://127.0.0.1:99999",
                "redis+cluster://a:1,b:99999",
                "redis+cluster://a:1?ssl=true",
                "redis+sentinel://a:1/primary?ssl=true",
            )
        ),
        ("BROKER_RATE_LIMIT_ISSUE", "often", "should be a number of requests in a time"),
        ("BROKER_RATE_LIMIT_ADDRESS", f"{'9' * 5000}/minute", "should be a number of requests in a time"),
        ("BROKER_LOG_LEVEL", "loud", "Input should be 'debug', 'info', 'warning' or 'error'"),
    ],
)
def test_an_invalid_value_is_named_with_the_expected_form(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, should: str
) -> None:
    _set(monkeypatch, {**VALID, name: value})
    with pytest.raises(SettingsInvalid) as refusal:
        load_settings()
    assert str(refusal.value).startswith(f"{name}: {should}")
    assert len(str(refusal.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "value", "package", "extra"),
    [
        ("BROKER_DATABASE_URL", "postgresql://ann@127.0.0.1/broker", "psycopg", "postgres"),
        ("BROKER_DATABASE_URL", "postgres://ann@127.0.0.1/broker", "psycopg", "postgres"),
        ("BROKER_RATE_LIMIT_STORAGE", "redis://127.0.0.1", "redis", "redis"),
        ("BROKER_RATE_LIMIT_STORAGE", "rediss://127.0.0.1", "redis", "redis"),
        ("BROKER_RATE_LIMIT_STORAGE", "redis://127.0.0.1", "limits", "redis"),
    ],
)
def test_a_missing_package_is_named_with_its_installation_command(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, package: str, extra: str
) -> None:
    _set(monkeypatch, {**VALID, name: value})
    assert load_settings()
    monkeypatch.setattr("broker.settings.fields.find_spec", lambda one: None if one == package else find_spec(one))
    with pytest.raises(SettingsInvalid) as refusal:
        load_settings()
    command = f"pip install 's3-media-broker[{extra}]'"
    assert str(refusal.value) == f"{name}: needs the package {package}; run `{command}`"
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert declared["name"] == "s3-media-broker"
    assert any(one.startswith(package) for one in declared["optional-dependencies"][extra])


def test_all_invalid_settings_are_named_together(monkeypatch: pytest.MonkeyPatch) -> None:
    _set(monkeypatch, {"MAX_FILE_SIZE": "many", "BROKER_POLICY_SECONDS": "0"})
    with pytest.raises(SettingsInvalid) as refusal:
        load_settings()
    named = {line.partition(":")[0] for line in str(refusal.value).splitlines()}
    assert named == {"SECRET_KEY", "AWS_S3_BUCKET_NAME", "MAX_FILE_SIZE", "BROKER_POLICY_SECONDS"}


def test_an_invalid_value_is_never_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "an-overly-short-secret"
    _set(monkeypatch, {**VALID, "SECRET_KEY": secret, "AWS_SECRET_ACCESS_KEY": "hush-hush", "MAX_FILE_SIZE": "psst"})
    with pytest.raises(SettingsInvalid) as refusal:
        load_settings()
    assert [value for value in (secret, "hush-hush", "psst") if value in str(refusal.value)] == []


def test_a_file_is_read_and_the_environment_takes_precedence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    lines = {**VALID, "MAX_FILE_SIZE": "1000", "BROKER_POLICY_SECONDS": "60"}
    (tmp_path / ".env").write_text("".join(f"{name}={value!r}\n" for name, value in lines.items()))
    _set(monkeypatch, {"MAX_FILE_SIZE": "2000"})
    settings = load_settings()
    assert (settings.max_file_size, settings.policy_seconds) == (2000, 60)
    assert settings.secret_key.get_secret_value() == VALID["SECRET_KEY"]


def test_a_file_may_hold_settings_of_other_programs(tmp_path: Path) -> None:
    lines = {**VALID, "STRIPE_KEY": "of-the-app", "BROKER_TOKEN": "of-broker-upload"}
    (tmp_path / ".env").write_text("".join(f"{name}={value!r}\n" for name, value in lines.items()))
    assert load_settings().bucket_name == "videos"


def test_an_override_takes_precedence_even_if_it_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    _set(monkeypatch, {**VALID, "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret"})
    settings = load_settings(bucket_name="other", access_key_id=None, secret_access_key=None)
    assert (settings.bucket_name, settings.credentials) == ("other", None)


def test_an_empty_value_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    _set(monkeypatch, {**VALID, "MAX_FILE_SIZE": "", "BROKER_CORS_ORIGINS": "", "BROKER_S3_ENDPOINT_URL": ""})
    settings = load_settings()
    assert (settings.max_file_size, settings.cors_origins, settings.s3_endpoint_url) == (100_000_000, (), None)


def test_lists_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    origins = "https://app.example, http://localhost:5173"
    _set(monkeypatch, {**VALID, "BROKER_CORS_ORIGINS": origins, "BROKER_ALLOWED_TYPES": "video/mp4"})
    settings = load_settings()
    assert settings.cors_origins == ("https://app.example", "http://localhost:5173")
    assert settings.rules.types == ("video/mp4",)


def test_printed_settings_show_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {"AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE", "AWS_SECRET_ACCESS_KEY": "hush", "AWS_SESSION_TOKEN": "psst"}
    _set(monkeypatch, {**VALID, **keys})
    printed = repr(load_settings())
    assert [value for value in (VALID["SECRET_KEY"], "hush", "psst") if value in printed] == []


@pytest.mark.parametrize("user", ["anna", "team/anna"])
def test_a_database_password_is_secret_both_encoded_and_decoded(monkeypatch: pytest.MonkeyPatch, user: str) -> None:
    _set(monkeypatch, VALID | {"BROKER_DATABASE_URL": f"postgresql://{user}:a%40long%2Fone@db.example/broker"})
    assert {"a%40long%2Fone", "a@long/one"} <= set(load_settings().secrets())
