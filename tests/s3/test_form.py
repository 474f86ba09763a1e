"""The form reader, chunk by chunk."""

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.dev.s3.errors import S3Error
from broker.dev.s3.form import PRE_DATA_BYTES_MAX, Form, FormReader
from tests.s3.forms import BOUNDARY, multipart

CONTENT_TYPE = f"multipart/form-data; boundary={BOUNDARY}"
# What could be taken for the end of a part, as well as anything else.
CONTENTS = st.binary(max_size=200) | st.lists(
    st.sampled_from([b"\r", b"\n", b"\r\n", b"--", f"--{BOUNDARY[:-1]}".encode(), b"x", b"\r\n--"]), max_size=12
).map(b"".join)
NAMES = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=12).filter(lambda name: name != "file")
VALUES = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


def read(body: bytes, cuts: list[int], content_type: str = CONTENT_TYPE) -> tuple[Form, bytes]:
    """Read a form that comes in pieces, cut at the given places."""
    places = sorted({0, len(body), *(cut % (len(body) + 1) for cut in cuts)})
    pieces = [body[start:end] for start, end in pairwise(places)]

    async def stream() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    async def run() -> tuple[Form, bytes]:
        reader = FormReader(content_type, stream())
        form = await reader.fields()
        return form, b"".join([chunk async for chunk in reader.file()])

    return asyncio.run(run())


@given(
    fields=st.dictionaries(NAMES, VALUES, max_size=5),
    content=CONTENTS,
    cuts=st.lists(st.integers(0, 5000), max_size=20),
)
def test_a_form_reads_the_same_in_whatever_pieces_it_comes(fields, content, cuts):
    body = multipart([*((n, v, None) for n, v in fields.items()), ("file", content, "a.mp4")])
    form, file = read(body, cuts)
    assert (form.fields, form.filename, file) == (fields, "a.mp4", content)


@given(
    body=st.binary(max_size=300),
    place=st.integers(0, 400),
    cuts=st.lists(st.integers(0, 600), max_size=5),
    content_type=st.sampled_from([CONTENT_TYPE, "multipart/form-data; boundary=", "text/plain", "", ";;", 'a;b="']),
)
def test_whatever_comes_is_read_or_refused(body, place, cuts, content_type):
    whole = multipart([("key", "a", None), ("file", b"content", "a.mp4")])
    place %= len(whole)
    status = 200
    try:
        read(whole[:place] + body + whole[place:], cuts, content_type)
    except S3Error as error:
        status = error.status
    assert status == 200 or 400 <= status < 500


@pytest.mark.parametrize("kept", range(1, 12))
def test_a_form_that_ends_too_soon_is_refused(kept):
    whole = multipart([("key", "a", None), ("file", b"content", "a.mp4")])
    end = len(whole) * kept // 12
    with pytest.raises(S3Error):
        read(whole[: min(end, whole.index(b"content") + 7)], [])


FILE = ("file", b"content", "a.mp4")


@pytest.mark.parametrize(
    ("body", "content_type", "code", "message", "elements"),
    [
        (
            multipart([FILE]),
            "text/plain",
            "PreconditionFailed",
            None,
            {"Condition": "Bucket POST must be of the enclosure-type multipart/form-data"},
        ),
        (multipart([FILE]), "multipart/form-data", "MalformedPOSTRequest", None, {}),
        (multipart([FILE]), "multipart/form-data; boundary=other", "MalformedPOSTRequest", None, {}),
        (
            multipart([("key", "a", None)]),
            CONTENT_TYPE,
            "InvalidArgument",
            "POST requires exactly one file upload per request.",
            {"ArgumentName": "file", "ArgumentValue": 0},
        ),
        (
            multipart([("key", "a", None), ("KEY", "b", None), FILE]),
            CONTENT_TYPE,
            "InvalidArgument",
            "Conflicting or duplicate field in the POST form.",
            {"ArgumentName": "key", "ArgumentValue": "a"},
        ),
        (
            multipart([("Key", b"\xff", None), FILE]),
            CONTENT_TYPE,
            "InvalidArgument",
            "A form field must be valid UTF-8.",
            {"ArgumentName": "key", "ArgumentValue": ""},
        ),
        (multipart([FILE])[:-20], CONTENT_TYPE, "IncompleteBody", None, {}),
    ],
    ids=["no form", "no boundary", "another boundary", "no file", "twice", "not UTF-8", "cut off"],
)
def test_another_form_is_refused_by_its_fault(body, content_type, code, message, elements):
    with pytest.raises(S3Error) as refused:
        read(body, [], content_type)
    assert (refused.value.code, refused.value.elements) == (code, elements)
    assert refused.value.message == (message or S3Error(code).message)


def test_the_fields_and_the_heads_of_parts_are_20_kb_at_most():
    def form(size):
        return multipart([("key", "x" * size, None), ("a", "b", None), FILE])

    heads = (
        *("Content-Disposition", 'form-data; name="key"', "Content-Disposition", 'form-data; name="a"', "b"),
        *("Content-Disposition", 'form-data; name="file"; filename="a.mp4"', "Content-Type", "text/html"),
    )
    room = PRE_DATA_BYTES_MAX - sum(map(len, heads))
    assert len(read(form(room), [7])[0].fields["key"]) == room
    with pytest.raises(S3Error) as refused:
        read(form(room + 1), [7])
    assert refused.value.code == "MaxPostPreDataLengthExceeded"
    assert refused.value.elements == {"MaxPostPreDataLength": PRE_DATA_BYTES_MAX}


@pytest.mark.parametrize(
    ("filename", "expanded"),
    [
        ("a.mp4", "x/a.mp4/a.mp4"),
        ("C:\\dir\\a.mp4", "x/a.mp4/a.mp4"),
        ("/dir/b/a.mp4", "x/a.mp4/a.mp4"),
        ("", "x//"),
        (None, "x/${filename}/${filename}"),
    ],
)
def test_the_files_name_stands_for_its_variable(filename, expanded):
    form = Form({"key": "x/${filename}/${filename}", "a": "${FILENAME}"}, filename)
    form.expand_filename()
    assert form.fields == {"key": expanded, "a": "${FILENAME}"}


def test_what_follows_the_file_is_ignored():
    form, file = read(multipart([("key", "a", None), FILE, ("key", "b", None), ("file", b"other", "b")]), [50, 90, 150])
    assert (form.fields, form.filename, file) == ({"key": "a"}, "a.mp4", b"content")
