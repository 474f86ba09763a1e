"""The bodies of requests and responses, each with an example."""

from broker.api.schemas.answers import serializer
from broker.api.schemas.health import Alive, S3Health
from broker.api.schemas.media import DELETED_MESSAGE, Deleted, Erased, Media, MediaList, Playback, Resumption, Video
from broker.api.schemas.problems import ProblemDocument, RefusedUpload
from broker.api.schemas.requests import Owner, UploadBody, UploadsBody
from broker.api.schemas.rules import AllowedType, Rules
from broker.api.schemas.uploads import Issued, IssuedUploads, PartForm, Parts, PartsPage, UploadForm

__all__ = [
    "DELETED_MESSAGE",
    "Alive",
    "AllowedType",
    "Deleted",
    "Erased",
    "Issued",
    "IssuedUploads",
    "Media",
    "MediaList",
    "Owner",
    "PartForm",
    "Parts",
    "PartsPage",
    "Playback",
    "ProblemDocument",
    "RefusedUpload",
    "Resumption",
    "Rules",
    "S3Health",
    "UploadBody",
    "UploadForm",
    "UploadsBody",
    "Video",
    "serializer",
]
