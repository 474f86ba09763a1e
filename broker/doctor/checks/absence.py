"""Whether S3 tells that an object is not there."""

from broker.doctor.checks.contact import list_bucket_statement
from broker.doctor.deployment import Patient
from broker.doctor.finding import Finding, fail, ok
from broker.errors import StorageRefused, StorageUnavailable


async def absence(patient: Patient) -> Finding:
    """Ask for an object that is not there: S3 answers 404 only to those who may list."""
    try:
        found = await patient.bucket.head(patient.staging_key("absent"))
    except StorageRefused as refused:
        return fail(
            "absent object",
            f"a HEAD of what is not there answers {refused.facts['code']} instead of 404",
            cause="the keys lack s3:ListBucket; the broker cannot tell a missing upload from a refusal",
            mend=list_bucket_statement(patient),
            terraform='statement "TellAbsence" in aws_iam_policy.signer',
        )
    except StorageUnavailable as away:
        return fail("absent object", str(away), cause="S3 did not answer", mend=patient.s3api("head-bucket"))
    if found is None:
        return ok("absent object", "a HEAD of what is not there answers 404")
    return fail(
        "absent object",
        "a HEAD of what is not there finds something",
        cause="something between the broker and S3 answers for it",
        mend=patient.s3api("head-object", "--key", patient.staging_key("absent")),
    )
