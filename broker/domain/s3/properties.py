"""The properties that a deployment gives its objects: encryption, tags, storage class and cache control.

Forms carry encryption and tags, as fields that the policy fixes; a client adds nothing. The storage class and the cache
control are those of the final object alone: a staging object lives for minutes, and other classes charge for months.
Sources: Amazon S3 API Reference, "POST Object", "CopyObject" and "CreateMultipartUpload".
"""

from typing import NamedTuple
from urllib.parse import urlencode
from xml.sax.saxutils import escape


class ObjectProperties(NamedTuple):
    """The properties of all objects of one deployment; None and no tags leave them to the bucket."""

    encryption: str | None = None
    kms_key_id: str | None = None
    tags: tuple[tuple[str, str], ...] = ()
    storage_class: str | None = None
    cache_control: str | None = None

    def form_fields(self) -> dict[str, str]:
        """Return the fields of every form, with their only allowed values."""
        fields = self._encryption()
        if self.tags:
            tags = "".join(
                f"<Tag><Key>{escape(name)}</Key><Value>{escape(value)}</Value></Tag>" for name, value in self.tags
            )
            fields["tagging"] = f"<Tagging><TagSet>{tags}</TagSet></Tagging>"
        return fields

    def final_headers(self) -> dict[str, str]:
        """Return the headers with which S3 makes the final object, by a copy or a composition."""
        headers = self._encryption()
        if self.tags:
            headers["x-amz-tagging"] = urlencode(self.tags)
        if self.storage_class is not None:
            headers["x-amz-storage-class"] = self.storage_class
        if self.cache_control is not None:
            headers["cache-control"] = self.cache_control
        return headers

    def _encryption(self) -> dict[str, str]:
        named = {
            "x-amz-server-side-encryption": self.encryption,
            "x-amz-server-side-encryption-aws-kms-key-id": self.kms_key_id,
        }
        return {name: value for name, value in named.items() if value is not None}
