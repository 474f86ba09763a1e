"""A stand-in for AWS's control plane: moto, extended for the resources of this module that moto cannot store.

It enforces no policy and validates little. It tests the life of the resources: created, read back, unchanged,
destroyed. Their contents are checked on the plan instead.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import moto.cloudfront.urls
import moto.sqs.models
from moto.server import ThreadedMotoServer
from moto.sqs.models import Queue

from tests.infra import cloudfront
from tests.infra.account import REGION

SERVICES = ("cloudfront", "cloudwatch", "iam", "kms", "s3", "sqs", "sts")


class RememberingQueue(Queue):
    """A queue that stores both redrive policies unchanged."""

    BASE_ATTRIBUTES: ClassVar[list[str]] = [  # type: ignore[misc]  # moto declares none
        *Queue.BASE_ATTRIBUTES,
        "RedriveAllowPolicy",
    ]
    redrive_allow_policy: str | None = None
    redrive_policy_text: str | None = None

    def _set_attributes(self, attributes: dict[str, Any], now: float | None = None) -> None:
        super()._set_attributes(attributes, now)
        self.redrive_policy_text = attributes.get("RedrivePolicy") or self.redrive_policy_text

    @property
    def attributes(self) -> dict[str, Any]:
        """Return the attributes for GetQueueAttributes."""
        return {**super().attributes, "RedrivePolicy": self.redrive_policy_text}


@contextmanager
def aws_stand_in() -> Iterator[str]:
    """Serve on a free port of 127.0.0.1 and yield the address."""
    own_queue, own_paths = moto.sqs.models.Queue, moto.cloudfront.urls.url_paths
    vars(moto.sqs.models)["Queue"], moto.cloudfront.urls.url_paths = RememberingQueue, cloudfront.paths()
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()
        vars(moto.sqs.models)["Queue"], moto.cloudfront.urls.url_paths = own_queue, own_paths


def write_provider(folder: Path, endpoint: str) -> None:
    """Write the provider's configuration, with every endpoint set to the stand-in."""
    provider = {
        "region": REGION,
        "access_key": "stand-in",
        "secret_key": "stand-in",
        "skip_credentials_validation": True,
        "skip_metadata_api_check": True,
        "s3_use_path_style": True,
        "endpoints": [dict.fromkeys(SERVICES, endpoint)],
    }
    (folder / "provider.tf.json").write_text(json.dumps({"provider": {"aws": provider}}))
