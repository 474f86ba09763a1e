"""The settings of the properties of objects: encryption, tags, storage class and cache control."""

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from broker.domain.s3.properties import ObjectProperties
from broker.settings.fields import CommaSeparated
from broker.settings.worker import WorkerSettings

MAX_TAGS = 10
"""S3's limit for one object (Amazon S3 User Guide, "Categorizing your storage using tags")."""
_TAG = re.compile(r"(?!aws:)[\w +\-.:/@]{1,128}=[\w +\-=.:/@]{0,256}", re.ASCII)


class PropertySettings(WorkerSettings):
    """The settings of the properties of objects; the docstring of a field is its description."""

    # Objects.
    object_encryption: Literal["AES256", "aws:kms", "aws:kms:dsse"] | None = None
    """The server-side encryption that forms and copies name; unset: the bucket's default."""
    object_kms_key_id: str | None = None
    """The ARN of the KMS key for `aws:kms`; unset: the bucket's, or AWS's own."""
    object_tags: CommaSeparated = ()
    """Tags of every object, such as `project=shop,team=video`; needs the right s3:PutObjectTagging."""
    object_storage_class: (
        Literal["STANDARD", "STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "GLACIER_IR"] | None
    ) = None
    """The storage class of final objects; only classes that play at once."""
    object_cache_control: Annotated[str | None, Field(max_length=255, pattern=r"^[\x20-\x7e]+$")] = None
    """The Cache-Control of final objects, such as `private, max-age=3600`."""

    @field_validator("object_tags")
    @classmethod
    def _tags_are_pairs(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        names = [tag.partition("=")[0] for tag in value]
        if not all(_TAG.fullmatch(tag) for tag in value) or len(value) > MAX_TAGS or len(set(names)) < len(names):
            raise ValueError(f"should be up to {MAX_TAGS} different tags, such as project=shop,team=video")
        return value

    @model_validator(mode="after")
    def _a_key_needs_kms(self) -> "PropertySettings":
        if self.object_kms_key_id is not None and not (self.object_encryption or "").startswith("aws:kms"):
            raise ValueError("BROKER_OBJECT_ENCRYPTION: should be aws:kms if BROKER_OBJECT_KMS_KEY_ID is set")
        return self

    @property
    def object_properties(self) -> ObjectProperties:
        """Return the properties of all objects."""
        pairs = [tag.partition("=") for tag in self.object_tags]
        return ObjectProperties(
            encryption=self.object_encryption,
            kms_key_id=self.object_kms_key_id,
            tags=tuple((name, value) for name, _, value in pairs),
            storage_class=self.object_storage_class,
            cache_control=self.object_cache_control,
        )
