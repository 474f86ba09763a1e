"""The check of resumable uploads: the broker's own composition of one part, and the rights to find and abort others."""

from contextlib import suppress
from dataclasses import replace

from broker.aws.client import Absent, PreconditionFailed
from broker.doctor.deployment import Patient
from broker.doctor.finding import Finding, Verdict, fail, ok
from broker.domain.video_types import DEFAULT_TYPES
from broker.errors import BrokerError, StorageRefused

_RIGHTS = {
    "head_bucket": "s3:ListBucket",
    "head_object": "s3:GetObject",
    "create_multipart_upload": "s3:PutObject",
    "upload_part_copy": "s3:GetObject",
    "complete_multipart_upload": "s3:PutObject",
    "list_parts": "s3:ListMultipartUploadParts",
    "list_multipart_uploads": "s3:ListBucketMultipartUploads",
    "abort_multipart_upload": "s3:AbortMultipartUpload",
}
_STATEMENTS = {
    "s3:ListBucket": "TellAbsence",
    "s3:GetObject": "ReadObjects",
    "s3:PutObject": "Promote",
    "s3:ListMultipartUploadParts": "Compose",
    "s3:ListBucketMultipartUploads": "FindCompositions",
    "s3:AbortMultipartUpload": "Compose",
}


async def composition(patient: Patient) -> Finding:
    """Compose the uploaded object as the only part of another, then abort a second composition.

    If the check fails, an unfinished composition is aborted, or named with the command that finds it. Raises
    StorageUnavailable, after the same attempt to abort.
    """
    key = patient.composed_key()
    try:
        finding = await _compose(patient, key)
    except BrokerError:
        with suppress(BrokerError):
            await patient.bucket.multipart.abort_all(key)
        raise
    if finding.verdict is Verdict.OK:
        return finding
    try:
        await patient.bucket.multipart.abort_all(key)
    except BrokerError:
        find = patient.s3api("list-multipart-uploads", "--prefix", key)
        detail = f"{finding.detail}; a multipart upload to {key} may be left"
        return replace(finding, detail=detail, fix=f"{finding.fix}\n{find}")
    return finding


async def _compose(patient: Patient, key: str) -> Finding:
    source = patient.staging_key("upload")
    multipart = patient.bucket.multipart
    staged = await patient.bucket.head(source)
    if staged is None:
        return _failed(patient, "the upload is gone", "s3:GetObject")
    try:
        upload_id = await multipart.create(key, DEFAULT_TYPES[0])
        copied = await multipart.copy(key, upload_id, 1, source, staged.etag)
        await multipart.copied(key, upload_id)
        await multipart.complete(key, upload_id, [copied.etag])
        composed = await patient.bucket.head(key)
        await multipart.create(key, DEFAULT_TYPES[0])
        nothing_left = await multipart.abort_all(key) and await multipart.abort_all(key)
    except StorageRefused as refused:
        operation = str(refused.facts["operation"])
        return _failed(patient, f"{operation} is refused ({refused.facts['code']})", _RIGHTS[operation])
    except (Absent, PreconditionFailed):
        return _failed(patient, "S3 has lost the multipart upload or the part", "s3:PutObject")
    if composed is None or composed.size != staged.size or not nothing_left:
        return _failed(patient, "the composed object is not the upload", "s3:PutObject")
    return ok("composition", "parts of a resumable upload are composed, and an unfinished composition is aborted")


def _failed(patient: Patient, detail: str, right: str) -> Finding:
    is_of_the_bucket = right.startswith("s3:ListBucket")
    return fail(
        "composition",
        f"a resumable upload would not become ready: {detail}",
        cause=f"the keys lack {right} {'on the bucket' if is_of_the_bucket else 'under media/'}, or the server has no "
        "multipart uploads",
        fix=patient.may(right, prefix=None if is_of_the_bucket else "media"),
        terraform=f'statement "{_STATEMENTS[right]}" in aws_iam_policy.signer',
    )
