"""The life of the process: data that lasts, data that does not, faults by order, and an end with its parent."""

import os
import subprocess
import sys
import time
from pathlib import Path

import boto3
import httpx
import psutil
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError

from broker.dev.s3 import Fault, start_embedded_s3

KEY = ("AKIAEMBEDDEDTESTKEY1", "a secret of the tests")


def client(s3):
    """Return a boto3 client without retries."""
    return boto3.client(
        "s3",
        endpoint_url=s3.endpoint_url,
        aws_access_key_id=s3.access_key,
        aws_secret_access_key=s3.secret_key,
        region_name=s3.region,
        config=Config(retries={"total_max_attempts": 1}),
    )


def test_objects_and_configuration_outlive_a_restart(tmp_path):
    with start_embedded_s3(data_dir=tmp_path, credentials=[KEY], buckets=["kept"]) as s3:
        before = client(s3)
        before.put_bucket_versioning(Bucket="kept", VersioningConfiguration={"Status": "Enabled"})
        first = before.put_object(Bucket="kept", Key="a/ü", Body=b"first", Metadata={"m": "1"})
        before.put_object(Bucket="kept", Key="a/ü", Body=b"second")
        before.create_bucket(Bucket="dropped")
        before.delete_bucket(Bucket="dropped")
    with start_embedded_s3(
        data_dir=tmp_path, credentials=[KEY], buckets=["kept"], cors_origins=["https://app.example"]
    ) as s3:
        after = client(s3)
        assert [bucket["Name"] for bucket in after.list_buckets()["Buckets"]] == ["kept"]
        assert after.get_bucket_versioning(Bucket="kept")["Status"] == "Enabled"
        old = after.get_object(Bucket="kept", Key="a/ü", VersionId=first["VersionId"])
        assert (old["Body"].read(), old["Metadata"], old["ETag"]) == (b"first", {"m": "1"}, first["ETag"])
        assert after.get_object(Bucket="kept", Key="a/ü")["Body"].read() == b"second"
        rule = after.get_bucket_cors(Bucket="kept")["CORSRules"][0]
        assert rule["AllowedOrigins"] == ["https://app.example"]


def test_an_object_whose_facts_were_cut_short_is_gone_and_the_others_are_there(tmp_path):
    with start_embedded_s3(data_dir=tmp_path, credentials=[KEY], buckets=["kept"]) as s3:
        for key in ("torn", "whole"):
            client(s3).put_object(Bucket="kept", Key=key, Body=b"x")
    facts = sorted((tmp_path / "objects" / "kept").glob("*.json"))[0]
    facts.write_bytes(facts.read_bytes()[:20])
    with start_embedded_s3(data_dir=tmp_path, credentials=[KEY], buckets=["kept"]) as s3:
        assert [entry["Key"] for entry in client(s3).list_objects_v2(Bucket="kept")["Contents"]] == ["whole"]
    assert len(list((tmp_path / "objects" / "kept").iterdir())) == 2


def test_what_lies_in_the_working_directory_is_not_taken_for_the_broker(monkeypatch, tmp_path):
    (tmp_path / "broker").mkdir()
    (tmp_path / "broker" / "__init__.py").write_text("raise SystemExit('not this one')")
    monkeypatch.chdir(tmp_path)
    with start_embedded_s3(buckets=["mine"]) as s3:
        assert client(s3).list_buckets()["Buckets"]


def test_a_data_directory_serves_one_server_at_a_time(tmp_path):
    with start_embedded_s3(data_dir=tmp_path, buckets=["kept"]) as s3:
        client(s3).put_object(Bucket="kept", Key="a", Body=b"x")
        with pytest.raises(RuntimeError, match="exit status 1"):
            start_embedded_s3(data_dir=tmp_path)
        assert client(s3).get_object(Bucket="kept", Key="a")["Body"].read() == b"x"


def test_without_a_data_directory_nothing_is_left(monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with start_embedded_s3(buckets=["mine"]) as s3:
        client(s3).put_object(Bucket="mine", Key="a", Body=b"x")
        assert list(tmp_path.iterdir())
    assert list(tmp_path.iterdir()) == []


def test_a_start_without_arguments_makes_keys_and_takes_no_orders():
    with start_embedded_s3() as s3:
        assert s3.access_key.startswith("AKIA")
        assert (len(s3.access_key), len(s3.secret_key)) == (20, 40)
        assert s3.region == "us-east-1"
        with pytest.raises(RuntimeError, match="controlled=True"):
            s3.set_clock(1)


def test_a_key_in_use_is_not_told_to_others(embedded_s3):
    command_line = " ".join(psutil.Process(embedded_s3.pid).cmdline())
    assert embedded_s3.secret_key not in command_line


def test_the_server_ends_with_its_parent(tmp_path):
    script = (
        "import os, signal, sys\n"
        "from broker.dev.s3 import start_embedded_s3\n"
        "s3 = start_embedded_s3()\n"
        "print(s3.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": root, "TMPDIR": str(tmp_path)},
        check=False,
    )
    child = int(done.stdout)
    for _ in range(100):
        if not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE:
            break
        time.sleep(0.05)
    else:
        pytest.fail("the server outlived its parent")
    assert list(tmp_path.iterdir()) == []


def test_the_module_serves_s3_and_prints_its_keys():
    root = str(Path(__file__).parents[2])
    command = [sys.executable, "-m", "broker.dev.s3", "--port", "0", "--bucket", "mine"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=environment | {"PYTHONPATH": root}
    ) as process:
        told = dict(process.stdout.readline().strip().split("=", 1) for _ in range(4))
        s3 = boto3.client(
            "s3",
            endpoint_url=told["AWS_ENDPOINT_URL"],
            aws_access_key_id=told["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=told["AWS_SECRET_ACCESS_KEY"],
            region_name=told["AWS_REGION"],
        )
        assert [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]] == ["mine"]
        process.terminate()
        assert process.wait(10) == 0


def test_the_example_of_the_readme_runs():
    section = (Path(__file__).parents[2] / "README.md").read_text("utf-8").partition("<!-- s3-alone -->")[2]
    example = section.partition("```python\n")[2].partition("```")[0]
    names = {}
    exec(compile(example, "README.md", "exec"), names)  # noqa: S102
    assert not psutil.pid_exists(names["s3"].pid)


def test_a_bucket_name_that_cannot_be_is_told():
    with pytest.raises(RuntimeError, match="exit status 1"):
        start_embedded_s3(buckets=["B"])


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        (Fault("PutObject", code="SlowDown"), 503, "SlowDown"),
        (Fault("*", code="InternalError"), 500, "InternalError"),
        (Fault("PutObject", code="InternalError", status=400), 400, "InternalError"),
    ],
)
def test_an_ordered_fault_spoils_one_request(fault, status, code, embedded_s3, s3_client, bucket, stored):
    embedded_s3.order_fault(fault)
    with pytest.raises(ClientError) as raised:
        s3_client.put_object(Bucket=bucket, Key="a")
    answer = raised.value.response
    assert (answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"]) == (status, code)
    assert stored() == []
    s3_client.put_object(Bucket=bucket, Key="a")


def test_a_fault_may_come_after_the_effect(embedded_s3, s3_client, bucket, stored):
    embedded_s3.order_fault(Fault("PutObject", code="InternalError", when="after"))
    with pytest.raises(ClientError):
        s3_client.put_object(Bucket=bucket, Key="a")
    assert stored() == ["a"]


def test_a_copy_may_fail_with_status_200(embedded_s3, s3_client, requests, bucket, stored):
    s3_client.put_object(Bucket=bucket, Key="a")
    embedded_s3.order_fault(Fault("CopyObject", code="InternalError", status=200))
    response = requests.send("PUT", "b", {"x-amz-copy-source": f"{bucket}/a"})
    assert response.status_code == 200
    assert b"<Code>InternalError</Code>" in response.content
    assert stored() == ["a"]


def test_a_connection_may_break(embedded_s3, s3_client, bucket):
    s3_client.put_object(Bucket=bucket, Key="a")
    embedded_s3.order_fault(Fault("GetObject", reset=True, key_prefix="a"))
    with pytest.raises(ConnectionClosedError):
        s3_client.get_object(Bucket=bucket, Key="a")


def test_an_answer_may_be_late(embedded_s3, requests, s3_client, bucket):
    s3_client.put_object(Bucket=bucket, Key="a")
    embedded_s3.order_fault(Fault("HeadObject", delay_seconds=0.3))
    started = time.monotonic()
    assert httpx.head(requests.presign(method="HEAD")).status_code == 200
    assert time.monotonic() - started > 0.3
