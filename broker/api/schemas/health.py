"""The answers about the service: the health of S3 and of the process."""

from typing import Literal

from pydantic import BaseModel

from broker.api.schemas.answers import answer_config


class S3Health(BaseModel):
    """The health of S3."""

    model_config = answer_config(success=True, service="s3", bucket="videos", region="eu-central-1", status="healthy")

    success: bool
    service: Literal["s3"]
    bucket: str
    region: str
    status: Literal["healthy", "unhealthy"]


class Alive(BaseModel):
    """The state of the process."""

    model_config = answer_config(success=True, status="alive")

    success: bool
    status: str
