"""The check that S3 answers 404 for an absent object."""

from broker.doctor.checks.contact import list_bucket_statement
from broker.doctor.deployment import Patient
from broker.doctor.finding import Finding, fail, ok
from broker.errors import StorageRefused, StorageUnavailable


async def absence(patient: Patient) -> Finding:
    """Send a HEAD for an absent object; S3 answers 404 only if the keys may list the bucket."""
    try:
        arrived = await patient.bucket.head(patient.staging_key("absent"))
    except StorageRefused as refused:
        return fail(
            "absent object",
            f"a HEAD of an absent object answers {refused.facts['code']} instead of 404",
            cause="the keys lack s3:ListBucket; the broker cannot tell a missing upload from a refusal",
            fix=list_bucket_statement(patient),
            terraform='statement "TellAbsence" in aws_iam_policy.signer',
        )
    except StorageUnavailable as error:
        return fail("absent object", str(error), cause="S3 did not answer", fix=patient.s3api("head-bucket"))
    if arrived is None:
        return ok("absent object", "a HEAD of an absent object answers 404")
    return fail(
        "absent object",
        "a HEAD of an absent object answers that it exists",
        cause="a proxy or cache between the broker and S3 answers for it",
        fix=patient.s3api("head-object", "--key", patient.staging_key("absent")),
    )
