"""What a server is known not to do as AWS does, each with its reason: one table.

A row names a test of this folder, with its case in brackets where it has cases. The test is expected to fail on an
assertion, and fails the run where it passes: a gap that was mended must leave this table.
"""

KNOWN_GAPS: dict[str, dict[str, str]] = {
    "embedded": {},
    # Ceph RGW 16.2.15, as Debian 12 ships it; each row was seen by running this suite.
    "ceph": {
        # It stores what AWS refuses.
        "test_nothing_is_stored[no file]": "stores an empty object, unless content-length-range forbids it",
        "test_the_answer_says_why[no file]": "stores an empty object, unless content-length-range forbids it",
        "test_nothing_is_stored[a field twice]": "takes a field that is sent twice",
        "test_the_answer_says_why[a field twice]": "takes a field that is sent twice",
        "test_nothing_is_stored[more than 20 kb before the file]": "has no limit of 20 KB for the fields",
        "test_the_answer_says_why[more than 20 kb before the file]": "has no limit of 20 KB for the fields",
        "test_nothing_is_stored[a body that ends early]": "stores a file whose closing boundary is missing",
        "test_the_answer_says_why[a body that ends early]": "stores a file whose closing boundary is missing",
        "test_nothing_is_stored[another checksum]": "ignores x-amz-checksum-*",
        "test_the_answer_says_why[another checksum]": "ignores x-amz-checksum-*",
        "test_a_promised_checksum_is_kept_and_can_be_read": "ignores x-amz-checksum-*",
        "test_a_promised_checksum_lets_its_video_in": "keeps no checksum, so that the broker has to reject the video",
        # It refuses, for a reason of its own.
        "test_the_answer_says_why[an altered policy]": "answers AccessDenied for a bad signature",
        "test_the_answer_says_why[a signature with another secret]": "answers AccessDenied for a bad signature",
        "test_the_answer_says_why[a signature of nothing]": "answers AccessDenied for a bad signature",
        "test_the_answer_says_why[an access key that nobody has]": "answers AccessDenied for an unknown key",
        "test_the_answer_says_why[a policy that is not json]": "answers InvalidArgument",
        "test_the_answer_says_why[a policy that never ends]": "answers InvalidArgument",
        "test_the_answer_says_why[a condition with two fields]": "reads the first, and answers AccessDenied",
        "test_the_answer_says_why[a form that is not multipart]": "answers 400 InvalidArgument",
        # It answers an upload otherwise.
        "test_the_answer_201_quotes_the_etag": "does not quote it",
        "test_the_answer_carries_the_etag_that_a_library_reads[201]": "answers a POST without an ETag header",
        "test_the_answer_carries_the_etag_that_a_library_reads[204]": "answers a POST without an ETag header",
        "test_the_answer_carries_the_location_that_a_library_reads": "answers a POST without a Location header",
        "test_another_status_means_204[mine]": "refuses a status that is not a number",
        "test_a_plain_form_is_sent_on_with_the_query_that_was_there": "adds a second question mark",
        # It copies without looking.
        "test_a_copy_of_another_version_than_the_judged_one_is_refused": (
            "ignores x-amz-copy-source-if-match; it reads x-amz-copy-if-match"
        ),
        "test_a_copy_does_not_replace_what_is_there": "ignores If-None-Match on a copy",
    },
    "aws": {},
}
