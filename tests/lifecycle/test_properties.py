"""The properties that a deployment gives its objects: in every form, and on the final object."""

from typing import Any

import pytest

from broker.domain.keys import current_key, staging_key
from broker.domain.s3.properties import ObjectProperties
from broker.lifecycle.requests import UploadRequest
from tests.support.in_parts import FILE, PART, post_parts
from tests.support.world import VIDEO, MakeWorld, World

PROPERTIES = ObjectProperties(
    encryption="aws:kms",
    tags=(("project", "shop + more"), ("team", "video")),
    storage_class="INTELLIGENT_TIERING",
    cache_control="private, max-age=3600",
)
TAGS = [{"Key": "project", "Value": "shop + more"}, {"Key": "team", "Value": "video"}]


def tags(world: World, key: str) -> Any:
    return world.s3.get_object_tagging(Bucket=world.bucket.config.name, Key=key)["TagSet"]


def assert_final(world: World, key: str) -> None:
    head = world.s3.head_object(Bucket=world.bucket.config.name, Key=key)
    assert (head["ServerSideEncryption"], head["StorageClass"]) == ("aws:kms", "INTELLIGENT_TIERING")
    assert (head["CacheControl"], head["ContentType"]) == ("private, max-age=3600", "video/mp4")
    assert tags(world, key) == TAGS


async def test_a_single_form_and_its_copy_have_the_properties(make_world: MakeWorld) -> None:
    world = make_world(properties=PROPERTIES)
    issued = await world.uploaded()
    staged = world.s3.head_object(Bucket=world.bucket.config.name, Key=staging_key(issued.media.id))
    assert (staged["ServerSideEncryption"], staged.get("StorageClass")) == ("aws:kms", None)
    assert tags(world, staging_key(issued.media.id)) == TAGS
    ready = await world.verbs.complete(issued.media.id, "anna")
    assert_final(world, current_key(ready.media))
    assert not ready.media.etag_is_md5  # under KMS, so a copy is not judged by it


async def test_a_composed_object_has_the_properties(make_world: MakeWorld) -> None:
    world = make_world(properties=PROPERTIES, max_size=len(FILE), part_size=PART)
    request = UploadRequest(content_type="video/mp4", size=len(FILE), resumable=True)
    issued = await world.verbs.issue(request, "anna")
    assert issued.parts is not None
    assert issued.parts.fields["tagging"].startswith("<Tagging>")
    post_parts(issued.parts)
    ready = await world.verbs.complete(issued.media.id, "anna")
    assert_final(world, current_key(ready.media))


@pytest.mark.parametrize("field", PROPERTIES.form_fields())
async def test_a_form_without_one_of_its_fields_or_with_another_value_is_refused(
    field: str, make_world: MakeWorld
) -> None:
    world = make_world(properties=PROPERTIES)
    issued = await world.issue()
    for changed in ({}, {field: "AES256"}):
        fields = {name: value for name, value in issued.fields.items() if name != field} | changed
        assert world.post(issued._replace(fields=fields), VIDEO).status_code in {400, 403}
