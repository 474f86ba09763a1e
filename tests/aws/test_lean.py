"""The broker serves without botocore's model of S3."""

import json
import os
import subprocess
import sys
from pathlib import Path

from broker.store import migrate

SERVE = """
import asyncio, json, sys

opened = []
sys.addaudithook(lambda event, arguments: opened.append(str(arguments[0])) if event == "open" else None)

from broker.errors import StorageUnavailable
from broker.lifecycle.requests import UploadRequest
from broker.settings import load_settings
from broker.wiring import running

async def serve():
    async with running(load_settings(None)) as (services, _):
        issued = await services.lifecycle.issue(UploadRequest(content_type="video/mp4", size=1000), "anna")
        try:
            await services.lifecycle.complete(issued.media.id, "anna")
        except StorageUnavailable:
            print(json.dumps([path for path in opened if "/botocore/data/" in path]))

asyncio.run(serve())
"""


def test_issue_and_complete_read_botocores_list_of_regions_and_no_model_of_a_service(tmp_path: Path) -> None:
    database_url = f"sqlite:///{tmp_path}/broker.db"
    migrate(database_url)
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLE",
        "AWS_S3_REGION": "eu-central-1",
        "AWS_S3_BUCKET_NAME": "videos",
        "SECRET_KEY": "a-secret-of-the-tests-and-no-other",
        "BROKER_DATABASE_URL": database_url,
        "HTTPS_PROXY": "http://127.0.0.1:1",  # S3 itself is not asked
    }
    done = subprocess.run([sys.executable, "-c", SERVE], env=environment, capture_output=True, text=True, check=True)
    read = {path.partition("/botocore/data/")[2] for path in json.loads(done.stdout.splitlines()[-1])}
    assert read == {"partitions.json"}
