"""S3's responses: XML documents, and the request ids that each response carries."""

import secrets
from typing import TypeAlias
from xml.sax.saxutils import escape

from starlette.responses import Response

from broker.dev.s3.errors import S3Error

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
Content: TypeAlias = "str | int | bool | list[tuple[str, Content]]"


def element(name: str, content: Content, attributes: str = "") -> str:
    """Write one XML element; a list holds its children."""
    match content:
        case bool():
            inner = str(content).lower()
        case list():
            inner = "".join(element(child, value) for child, value in content)
        case _:
            inner = escape(str(content))
    return f"<{name}{attributes}>{inner}</{name}>"


def xml_answer(root: str, content: list[tuple[str, Content]], *, headers: dict[str, str] | None = None) -> Response:
    """Return a response of status 200 with an XML document in S3's namespace."""
    return xml_document(element(root, content, f' xmlns="{NAMESPACE}"'), 200, headers)


def xml_document(root: str, status: int, headers: dict[str, str] | None = None) -> Response:
    """Return a response with an XML document, given its root element as text."""
    body = f'<?xml version="1.0" encoding="UTF-8"?>\n{root}'
    return Response(body.encode(), status, headers, media_type="application/xml")


def refusal(error: S3Error, ids: dict[str, str], *, head: bool) -> Response:
    """Return the response for an error. A response to HEAD, or with status 304, has no body."""
    if head or error.status == 304:
        return Response(b"", error.status, error.headers)
    body = error.body(ids["x-amz-request-id"], ids["x-amz-id-2"])
    return Response(body, error.status, error.headers, media_type="application/xml")


def request_ids() -> dict[str, str]:
    """Return the two headers that identify a request to AWS's support."""
    return {
        "x-amz-request-id": secrets.token_hex(8).upper(),
        "x-amz-id-2": secrets.token_urlsafe(56),
    }
