"""`broker dev`: everything on this machine, and nothing left of it afterwards."""

import re
import signal
import socket
from pathlib import Path
from typing import Any

import boto3
import httpx
import psutil
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from broker.dev.kept import kept_in
from tests.cli.conftest import Dev
from tests.support.processes import CLIP, done, read_variables, running


def test_it_answers_within_seconds(dev: Dev) -> None:
    assert dev.started_in < 20


def test_it_serves_the_page_the_interface_and_a_healthy_s3(dev: Dev) -> None:
    address = dev.running.wait_for(r"console +(http://127\.0\.0\.1:\d+/)")[1]
    page = httpx.get(address)
    assert (page.status_code, page.headers["Content-Type"].partition(";")[0]) == (200, "text/html")
    assert "server" not in page.headers
    assert httpx.get(f"{dev.url}/", headers=dev.bearer).json()["success"]
    assert httpx.get(f"{dev.url}/health/s3").json()["status"] == "healthy"


def test_it_bounds_heads_and_trusts_no_proxy_like_a_production_server(dev: Dev) -> None:
    url = httpx.URL(dev.url)
    large = httpx.get(f"{dev.url}/", headers={"X-Large": "x" * 40_000})
    assert large.status_code == 431
    with socket.create_connection((url.host, url.port or 80), timeout=20) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: ")
        assert connection.recv(65536).startswith(b"HTTP/1.1 408 ")
    proxied = dev.bearer | {"X-Forwarded-Proto": "https"}
    issued = httpx.post(f"{dev.url}/upload", json={"content_type": "video/mp4"}, headers=proxied)
    assert issued.json()["complete_url"].startswith("http://")


def test_the_printed_curl_line_has_the_token_of_its_file(dev: Dev) -> None:
    said = dev.running.wait_for(r"curl -H 'Authorization: (Bearer \S+)' (\S+)")
    assert said[1] == dev.bearer["Authorization"]
    assert httpx.get(said[2], headers={"Authorization": said[1]}).status_code == 200
    assert (dev.cwd / "var" / "dev.env").stat().st_mode & 0o077 == 0


def test_only_this_machine_can_reach_it(dev: Dev) -> None:
    process = psutil.Process(dev.running.process.pid)
    listening = [
        connection.laddr.ip
        for one in (process, *process.children(recursive=True))
        for connection in one.net_connections()
        if connection.status == psutil.CONN_LISTEN
    ]
    assert set(listening) == {"127.0.0.1"}
    assert len(listening) == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_its_s3_and_removes_the_token(tmp_path: Path, number: signal.Signals) -> None:
    with running("dev", "--port", "0", cwd=tmp_path) as started:
        started.wait_for("Try in another terminal")
        children = psutil.Process(started.process.pid).children(recursive=True)
        assert children
        assert started.end(number) == 0
        assert [child for child in children if child.is_running()] == []
        assert not (tmp_path / "var" / "dev.env").exists()
        assert "Traceback" not in started.said


def test_a_kill_leaves_no_child_behind(tmp_path: Path) -> None:
    with running("dev", "--port", "0", cwd=tmp_path) as started:
        started.wait_for("Try in another terminal")
        children = psutil.Process(started.process.pid).children(recursive=True)
        started.end(signal.SIGKILL)
        gone, alive = psutil.wait_procs(children, timeout=10)
        assert gone
        assert alive == []


def test_a_taken_port_is_named_and_a_free_one_used(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with running("dev", "--port", str(port), cwd=tmp_path) as started:
            other = started.wait_for(rf"Port {port}: Address already in use; using (\d+) instead")[1]
            started.wait_for("Try in another terminal")
            assert httpx.get(f"http://127.0.0.1:{other}/").status_code == 200


def test_a_second_one_in_the_same_directory_is_refused(dev: Dev) -> None:
    second = done("dev", "--port", "0", cwd=dev.cwd)
    assert (second.returncode, second.stderr) == (
        2,
        f"var is in use by another `broker dev` at {dev.url.partition('/api')[0]}/. "
        "Use that one, stop it with Ctrl-C, or name another directory with --data-dir.\n",
    )


def test_media_tokens_links_and_an_upload_in_flight_outlive_a_restart(tmp_path: Path) -> None:
    with running("dev", "--port", "0", cwd=tmp_path) as first:
        first.wait_for("Try in another terminal")
        variables = read_variables((tmp_path / "var" / "dev.env").read_text())
        bearer = {"Authorization": f"Bearer {variables['BROKER_TOKEN']}"}
        link = done("upload", str(CLIP), cwd=tmp_path, **variables).stdout.strip()
        asked = {"content_type": "video/mp4", "size": CLIP.stat().st_size}
        issued = httpx.post(f"{variables['BROKER_URL']}/upload", headers=bearer, json=asked).json()
        first.end()
    assert (tmp_path / "var" / "kept.json").stat().st_mode & 0o777 == 0o600
    with running("dev", "--port", "0", cwd=tmp_path) as second:
        second.wait_for("Try in another terminal")
        prefix = read_variables((tmp_path / "var" / "dev.env").read_text())["BROKER_URL"]
        ready = httpx.get(f"{prefix}/", headers=bearer, params={"status": "ready"}).json()["media"]
        fresh = httpx.get(f"{prefix}/{ready[0]['media_id']}", headers=bearer).json()["signed_url"]
        assert httpx.get(link).content == httpx.get(fresh).content == CLIP.read_bytes()
        form = issued["upload"]
        httpx.post(form["url"], data=form["fields"], files={"file": CLIP.read_bytes()}).raise_for_status()
        completed = httpx.post(f"{prefix}/{issued['media_id']}/complete", headers=bearer)
        assert completed.json()["status"] == "ready"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"secret": "a"}', '{"secret": "a", "key": 7, "s3_port": 0}'])
def test_a_file_of_the_last_run_that_cannot_be_read_is_replaced(tmp_path: Path, text: str) -> None:
    (tmp_path / "kept.json").write_text(text)
    fresh = kept_in(tmp_path)
    assert len(fresh.secret) >= 64
    assert kept_in(tmp_path) == fresh


def test_the_values_of_the_last_run_are_kept_in_a_new_directory(tmp_path: Path) -> None:
    assert kept_in(tmp_path / "new" / "data") == kept_in(tmp_path / "new" / "data")


def test_the_developers_own_keys_profile_proxy_and_settings_do_not_reach_it(tmp_path: Path) -> None:
    surroundings = {
        "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "of-another",
        "AWS_SESSION_TOKEN": "of-another",
        "AWS_S3_BUCKET_NAME": "production",
        "AWS_PROFILE": "absent",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "HTTP_PROXY": "http://127.0.0.1:9",
        "http_proxy": "http://127.0.0.1:9",
        "SECRET_KEY": "short",
        "BROKER_DATABASE_URL": "postgresql://production.example/broker",
        "BROKER_S3_PUBLIC_ENDPOINT_URL": "https://cdn.example",
        "BROKER_JWKS_URL": "https://id.example/jwks",
        "BROKER_JWT_ISSUER": "https://id.example/",
        "BROKER_JWT_AUDIENCE": "videos",
    }
    (tmp_path / ".env").write_text("USE_CLOUD_STORAGE=true\nBROKER_PUBLIC_URL=https://api.example\n")
    with running("dev", "--port", "0", cwd=tmp_path, **surroundings) as started:
        started.wait_for("Try in another terminal")
        assert "BROKER_JWKS_URL and BROKER_JWT_PUBLIC_KEY are ignored here" in started.said
        variables = read_variables((tmp_path / "var" / "dev.env").read_text())
        uploaded = done("upload", str(CLIP), cwd=tmp_path, **surroundings, **variables)
        assert uploaded.returncode == 0, uploaded.stderr
        assert uploaded.stdout.startswith("http://127.0.0.1:")


def open_s3(variables: dict[str, str], key: tuple[str, str] | None = None) -> Any:
    """Return a client of the S3 that printed these variables, with its own key or another one."""
    access_key, secret_key = key or (variables["AWS_ACCESS_KEY_ID"], variables["AWS_SECRET_ACCESS_KEY"])
    return boto3.client(
        "s3",
        endpoint_url=variables["BROKER_S3_ENDPOINT_URL"],
        region_name=variables["AWS_S3_REGION"],
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        config=Config(signature_version="s3v4", s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
    )


def test_s3_only_takes_a_port_and_the_keys_of_several_users(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    users = [("AKIAFIRSTUSER0000001", "a" * 40), ("second_user", "secret/with+more=")]
    keys = ",".join(f"{key_id}:{secret}" for key_id, secret in users)
    with running("dev", "--s3-only", "--port", str(port), cwd=tmp_path, BROKER_DEV_S3_KEYS=keys) as started:
        started.wait_for("BROKER_S3_PATH_STYLE=true")
        variables = read_variables(started.said)
        assert variables["BROKER_S3_ENDPOINT_URL"] == f"http://127.0.0.1:{port}"
        assert (variables["AWS_ACCESS_KEY_ID"], variables["AWS_SECRET_ACCESS_KEY"]) == users[0]
        for user in users:
            assert open_s3(variables, user).list_buckets()["Buckets"]
        with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
            open_s3(variables, (users[0][0], users[1][1])).list_buckets()
        assert started.end() == 0


def test_malformed_s3_keys_are_refused_without_printing_a_secret(tmp_path: Path) -> None:
    ended = done("dev", "--s3-only", cwd=tmp_path, BROKER_DEV_S3_KEYS="AKIAFIRSTUSER0000001:-topsecret")
    assert ended.returncode != 0
    assert "BROKER_DEV_S3_KEYS" in ended.stdout + ended.stderr
    assert "topsecret" not in ended.stdout + ended.stderr


def test_s3_only_prints_working_keys(tmp_path: Path) -> None:
    with running("dev", "--s3-only", "--port", "0", cwd=tmp_path) as started:
        started.wait_for("BROKER_S3_PATH_STYLE=true")
        keys = read_variables(started.said)
        assert re.fullmatch(r"[A-Z0-9]{20}", keys["AWS_ACCESS_KEY_ID"])
        assert re.fullmatch(r"[A-Za-z0-9]{40}", keys["AWS_SECRET_ACCESS_KEY"])
        client = open_s3(keys)
        assert [bucket["Name"] for bucket in client.list_buckets()["Buckets"]] == [keys["AWS_S3_BUCKET_NAME"]]
        children = psutil.Process(started.process.pid).children(recursive=True)
        assert started.end() == 0
        assert [child for child in children if child.is_running()] == []
