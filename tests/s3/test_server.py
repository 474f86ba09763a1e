"""The life of the process: data that lasts, data that does not, faults by order, and an end with its parent."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import boto3
import httpx
import psutil
import pytest
from botocore.exceptions import ClientError, ConnectionClosedError

from broker.dev.s3 import Fault, start_embedded_s3
from tests.support.s3_clients import client_of

KEY = ("AKIAEMBEDDEDTESTKEY1", "a secret of the tests")


def test_objects_and_configuration_outlive_a_restart(tmp_path):
    with start_embedded_s3(data_dir=tmp_path, credentials=[KEY], buckets=["kept"]) as s3:
        before = client_of(s3)
        before.put_bucket_versioning(Bucket="kept", VersioningConfiguration={"Status": "Enabled"})
        first = before.put_object(Bucket="kept", Key="a/ü", Body=b"first", Metadata={"m": "1"})
        before.put_object(Bucket="kept", Key="a/ü", Body=b"second")
        before.create_bucket(Bucket="dropped")
        before.delete_bucket(Bucket="dropped")
    with start_embedded_s3(
        data_dir=tmp_path, credentials=[KEY], buckets=["kept"], cors_origins=["https://app.example"]
    ) as s3:
        after = client_of(s3)
        assert [bucket["Name"] for bucket in after.list_buckets()["Buckets"]] == ["kept"]
        assert after.get_bucket_versioning(Bucket="kept")["Status"] == "Enabled"
        old = after.get_object(Bucket="kept", Key="a/ü", VersionId=first["VersionId"])
        assert (old["Body"].read(), old["Metadata"], old["ETag"]) == (b"first", {"m": "1"}, first["ETag"])
        assert after.get_object(Bucket="kept", Key="a/ü")["Body"].read() == b"second"
        rule = after.get_bucket_cors(Bucket="kept")["CORSRules"][0]
        assert rule["AllowedOrigins"] == ["https://app.example"]


MIB = 1024 * 1024
COUNT_FLUSHES = """
import os, stat

def counted(descriptor, fsync=os.fsync):
    fsync(descriptor)
    with open({log!r}, "a") as log:
        log.write("directory " if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file ")

os.fsync = counted
"""


def create_upload(s3, key="a", **facts):
    """Create a multipart upload with two parts; return its names, and the parts."""
    upload = {"Bucket": "kept", "Key": key}
    upload["UploadId"] = s3.create_multipart_upload(**upload, **facts)["UploadId"]
    algorithm = facts.get("ChecksumAlgorithm")
    parts = []
    for number, body in ((1, b"1" * 5 * MIB), (2, b"2")):
        part = s3.upload_part(
            **upload, PartNumber=number, Body=body, **({"ChecksumAlgorithm": algorithm} if algorithm else {})
        )
        names = ("ETag", f"Checksum{algorithm}") if algorithm else ("ETag",)
        parts.append({"PartNumber": number} | {name: part[name] for name in names})
    return upload, parts


def kill(s3):
    """End a server as a crash does."""
    process = psutil.Process(s3.pid)
    process.kill()
    psutil.wait_procs([process])


@pytest.mark.parametrize("end", ["stopped", "killed"])
@pytest.mark.parametrize("durable", [False, True])
def test_multipart_uploads_outlive_a_restart(end, durable, tmp_path):
    started = {"data_dir": tmp_path, "durable": durable, "credentials": [KEY], "buckets": ["kept"]}
    with start_embedded_s3(**started) as s3:
        facts = {"Metadata": {"m": "1"}, "ContentType": "video/mp4", "StorageClass": "STANDARD_IA"}
        upload, parts = create_upload(client_of(s3), ChecksumAlgorithm="SHA256", Tagging="k=v", **facts)
        aborted, _ = create_upload(client_of(s3), "aborted")
        client_of(s3).abort_multipart_upload(**aborted)
        client_of(s3).upload_part(**upload, PartNumber=2, Body=b"22", ChecksumAlgorithm="SHA256")
        listed = client_of(s3).list_parts(**upload)
        if end == "killed":
            kill(s3)
    with start_embedded_s3(**started) as s3:
        after = client_of(s3)
        assert [entry["UploadId"] for entry in after.list_multipart_uploads(Bucket="kept")["Uploads"]] == [
            upload["UploadId"]
        ]
        assert after.list_parts(**upload)["Parts"] == listed["Parts"]
        parts[1] = {name: listed["Parts"][1][name] for name in ("PartNumber", "ETag", "ChecksumSHA256")}
        done = after.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
        stored = after.get_object(Bucket="kept", Key="a")
        assert (stored["Body"].read(), stored["Metadata"]) == (b"1" * 5 * MIB + b"22", {"m": "1"})
        assert (stored["ContentType"], stored["StorageClass"], stored["TagCount"]) == ("video/mp4", "STANDARD_IA", 1)
        assert done["ChecksumSHA256"].endswith("-2")
        assert list((tmp_path / "uploads").iterdir()) == []


def test_a_complete_repeated_after_a_restart_gets_the_first_answer(tmp_path):
    started = {"data_dir": tmp_path, "credentials": [KEY], "buckets": ["kept"]}
    with start_embedded_s3(**started) as s3:
        upload, parts = create_upload(client_of(s3))
        first = client_of(s3).complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
        kill(s3)
    with start_embedded_s3(**started) as s3:
        second = client_of(s3).complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
        names = ("ETag", "ChecksumCRC64NVME", "ChecksumType", "Key")
        assert [first[name] for name in names] == [second[name] for name in names]
        assert client_of(s3).head_object(Bucket="kept", Key="a", PartNumber=2)["PartsCount"] == 2


def test_a_page_holds_a_thousand_parts(tmp_path):
    started = {"data_dir": tmp_path, "credentials": [KEY], "buckets": ["kept"]}
    with start_embedded_s3(**started) as s3:
        upload = {"Bucket": "kept", "Key": "a"}
        upload["UploadId"] = client_of(s3).create_multipart_upload(**upload)["UploadId"]
        client_of(s3).upload_part(**upload, PartNumber=1, Body=b"1")
    facts = tmp_path / "uploads" / upload["UploadId"] / "1.json"
    for number in range(2, 1003):
        part = json.loads(facts.read_text()) | {"number": number}
        facts.with_name(f"{number}.json").write_text(json.dumps(part))
    with start_embedded_s3(**started) as s3:
        first = client_of(s3).list_parts(**upload, MaxParts=2000)
        assert (len(first["Parts"]), first["MaxParts"], first["IsTruncated"]) == (1000, 1000, True)
        second = client_of(s3).list_parts(**upload, PartNumberMarker=first["NextPartNumberMarker"])
        assert [part["PartNumber"] for part in second["Parts"]] == [1001, 1002]


def test_an_upload_completed_just_before_a_crash_is_in_progress_no_more(tmp_path):
    started = {"data_dir": tmp_path, "credentials": [KEY], "buckets": ["kept"]}
    with start_embedded_s3(**started) as s3:
        upload, parts = create_upload(client_of(s3))
        directory = tmp_path / "uploads" / upload["UploadId"]
        shutil.copytree(directory, tmp_path / "copy")
        client_of(s3).complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
    # As if the process had ended between the object and the removal of its parts.
    (tmp_path / "copy").rename(directory)
    with start_embedded_s3(**started) as s3:
        assert "Uploads" not in client_of(s3).list_multipart_uploads(Bucket="kept")
        again = client_of(s3).complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
        assert again["ETag"].endswith('-2"')
        assert not directory.exists()


def test_a_composition_without_its_facts_is_completed_after_a_crash(tmp_path):
    started = {"data_dir": tmp_path, "credentials": [KEY], "buckets": ["kept"]}
    with start_embedded_s3(**started) as s3:
        upload, parts = create_upload(client_of(s3))
        shutil.copytree(tmp_path / "uploads", tmp_path / "copy")
        client_of(s3).complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
    # As if the process had ended between the move of the bytes and that of the facts.
    shutil.rmtree(tmp_path / "uploads")
    (tmp_path / "copy").rename(tmp_path / "uploads")
    (facts,) = (tmp_path / "objects" / "kept").glob("*.json")
    facts.unlink()
    # The same of a part that is a copy of a composed object.
    copied = tmp_path / "uploads" / upload["UploadId"] / "copied"
    copied.mkdir()
    (copied / "0").write_bytes(b"x")
    with start_embedded_s3(**started) as s3:
        assert not copied.exists()
        assert "Contents" not in client_of(s3).list_objects_v2(Bucket="kept")
        assert list((tmp_path / "objects" / "kept").iterdir()) == []
        client_of(s3).complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
        assert client_of(s3).get_object(Bucket="kept", Key="a")["Body"].read() == b"1" * 5 * MIB + b"2"


def test_a_condition_of_complete_holds_across_a_restart(tmp_path):
    started = {"data_dir": tmp_path, "credentials": [KEY], "buckets": ["kept"]}
    with start_embedded_s3(**started) as s3:
        client_of(s3).put_object(Bucket="kept", Key="a", Body=b"before")
        upload, parts = create_upload(client_of(s3))
    with start_embedded_s3(**started) as s3:
        client_of(s3).delete_object(Bucket="kept", Key="a")
        with pytest.raises(ClientError) as refused:
            client_of(s3).complete_multipart_upload(**upload, MultipartUpload={"Parts": parts}, IfNoneMatch="*")
        assert refused.value.response["Error"]["Code"] == "ConditionalRequestConflict"


@pytest.mark.parametrize("name", ["upload.json", "1.json"])
def test_an_upload_whose_facts_were_cut_short_loses_what_they_described(name, tmp_path):
    started = {"data_dir": tmp_path, "credentials": [KEY], "buckets": ["kept"]}
    with start_embedded_s3(**started) as s3:
        upload, _ = create_upload(client_of(s3))
        other, _ = create_upload(client_of(s3), "b")
    facts = tmp_path / "uploads" / upload["UploadId"] / name
    facts.write_bytes(facts.read_bytes()[:20])
    with start_embedded_s3(**started) as s3:
        uploads = client_of(s3).list_multipart_uploads(Bucket="kept")["Uploads"]
        kept = {entry["UploadId"]: client_of(s3).list_parts(Bucket="kept", **_names(entry)) for entry in uploads}
        assert len(kept[other["UploadId"]]["Parts"]) == 2
        if name == "1.json":
            assert [part["PartNumber"] for part in kept[upload["UploadId"]]["Parts"]] == [2]
            # The bytes that nothing describes are gone, too.
            assert len(list(facts.parent.iterdir())) == 3
        else:
            assert upload["UploadId"] not in kept


def _names(entry):
    return {"Key": entry["Key"], "UploadId": entry["UploadId"]}


def test_no_credential_of_the_request_is_written_down(tmp_path):
    with start_embedded_s3(data_dir=tmp_path, credentials=[KEY], buckets=["kept"]) as s3:
        create_upload(client_of(s3))
    written = "".join(path.read_text() for path in tmp_path.rglob("*.json")).lower()
    assert "storage_class" in written
    assert not any(word in written for word in ("authorization", "signature", KEY[0].lower()))


@pytest.mark.parametrize("durable", [False, True])
def test_only_a_durable_server_flushes_what_it_stores(durable, tmp_path, monkeypatch):
    hook = tmp_path / "hook"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(COUNT_FLUSHES.format(log=str(tmp_path / "log")))
    monkeypatch.setenv("PYTHONPATH", str(hook))
    with start_embedded_s3(data_dir=tmp_path / "data", durable=durable, credentials=[KEY], buckets=["kept"]) as s3:
        (tmp_path / "log").write_text("")
        client_of(s3).put_object(Bucket="kept", Key="a", Body=b"x")
        upload, parts = create_upload(client_of(s3), "b")
        client_of(s3).complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
    flushed = (tmp_path / "log").read_text().split()
    # Of the object, of the upload, of its parts, and of the composed object: facts and their directory, and bytes,
    # but the bytes of the composed object are flushed already.
    assert flushed.count("file") >= 7 if durable else flushed == []
    assert flushed.count("directory") >= 7 if durable else flushed == []


def test_an_object_whose_facts_were_cut_short_is_gone_and_the_others_are_there(tmp_path):
    with start_embedded_s3(data_dir=tmp_path, credentials=[KEY], buckets=["kept"]) as s3:
        for key in ("torn", "whole"):
            client_of(s3).put_object(Bucket="kept", Key=key, Body=b"x")
    facts = sorted((tmp_path / "objects" / "kept").glob("*.json"))[0]
    facts.write_bytes(facts.read_bytes()[:20])
    with start_embedded_s3(data_dir=tmp_path, credentials=[KEY], buckets=["kept"]) as s3:
        assert [entry["Key"] for entry in client_of(s3).list_objects_v2(Bucket="kept")["Contents"]] == ["whole"]
    assert len(list((tmp_path / "objects" / "kept").iterdir())) == 2


def test_what_lies_in_the_working_directory_is_not_taken_for_the_broker(monkeypatch, tmp_path):
    (tmp_path / "broker").mkdir()
    (tmp_path / "broker" / "__init__.py").write_text("raise SystemExit('not this one')")
    monkeypatch.chdir(tmp_path)
    with start_embedded_s3(buckets=["mine"]) as s3:
        assert client_of(s3).list_buckets()["Buckets"]


def test_a_data_directory_serves_one_server_at_a_time(tmp_path):
    with start_embedded_s3(data_dir=tmp_path, buckets=["kept"]) as s3:
        client_of(s3).put_object(Bucket="kept", Key="a", Body=b"x")
        with pytest.raises(RuntimeError, match="exit status 1"):
            start_embedded_s3(data_dir=tmp_path)
        assert client_of(s3).get_object(Bucket="kept", Key="a")["Body"].read() == b"x"


def test_without_a_data_directory_nothing_is_left(monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with start_embedded_s3(buckets=["mine"]) as s3:
        client_of(s3).put_object(Bucket="mine", Key="a", Body=b"x")
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
        assert process.stdout is not None
        lines = [process.stdout.readline().strip().partition("=") for _ in range(4)]
        told = {name: value for name, _, value in lines}
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


def test_the_example_of_the_guide_runs():
    section = (
        (Path(__file__).parents[2] / "infra/guides/local-s3.md").read_text("utf-8").partition("<!-- s3-alone -->")[2]
    )
    example = section.partition("```python\n")[2].partition("```")[0]
    names: dict[str, Any] = {}
    exec(compile(example, "local-s3.md", "exec"), names)  # noqa: S102
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


def test_the_command_line_says_what_durable_is_for():
    done = subprocess.run(
        [sys.executable, "-m", "broker.dev.s3", "--help"], capture_output=True, text=True, check=True, timeout=60
    )
    text = " ".join(done.stdout.split())
    assert "without this option a power cut may lose the last objects" in text
