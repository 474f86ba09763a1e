"""The other services on the same port (SQS, SNS, STS, IAM): served by moto to clients with a valid signature.

The scope of a credential names the service. S3 accepts the sessions that STS hands out, so a forged signature must
not reach it.
"""

import json
import re
from xml.sax.saxutils import escape

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from broker.dev.s3.errors import S3Error
from broker.dev.s3.keyring import Keyring
from broker.dev.s3.services import Answer, Services
from broker.domain.s3 import sigv4

_AUTHORIZATION = re.compile(
    rf"{sigv4.ALGORITHM} Credential=(?P<key>[^/]+)/\d+/(?P<region>[^/]+)/(?P<service>[^/]+)/aws4_request"
    r", ?SignedHeaders=(?P<headers>[^,]+), ?Signature=(?P<signature>[0-9a-f]{64})"
)
_CODES = {"InvalidAccessKeyId": "InvalidClientTokenId", "InvalidToken": "InvalidClientTokenId"}


def other_service(http: HttpRequest) -> str | None:
    """Return the service that a request is signed for, or None if that is S3."""
    match = _AUTHORIZATION.fullmatch(http.headers.get("authorization", ""))
    return match["service"] if match is not None and match["service"] != "s3" else None


async def serve(http: HttpRequest, service: str, services: Services, keyring: Keyring) -> Response:
    """Return the response to a request that is signed for another service."""
    body = await http.body()
    try:
        _believe(http, body, keyring)
    except S3Error as error:
        return _refusal(http, error)
    origin = f"{http.url.scheme}://{http.headers.get('host', 'localhost')}"
    query = http.scope["query_string"].decode("latin-1")
    headers = dict(http.headers)
    if headers.get("x-amz-target") == "AmazonSQS.ReceiveMessage":
        answer = await services.receive(origin, http.url.path, headers, body)
    else:
        answer = await services.ask(http.method, origin, http.url.path, query, headers, body)
    if service == "sts":
        keyring.learn(answer.body.decode())
    return passed_on(answer)


def passed_on(answer: Answer) -> Response:
    """Return moto's response without the headers of its transfer."""
    dropped = ("content-length", "transfer-encoding", "connection", "date", "server")
    headers = {name: value for name, value in answer.headers.items() if name.lower() not in dropped}
    return Response(answer.body, answer.status, headers)


def _believe(http: HttpRequest, body: bytes, keyring: Keyring) -> None:
    match = _AUTHORIZATION.fullmatch(http.headers["authorization"])
    if match is None:
        raise S3Error("AccessDenied")
    token = http.headers.get("x-amz-security-token")
    credentials = Credentials(match["key"], keyring.secret(match["key"], token), token)
    auth = SigV4Auth(credentials, match["service"], match["region"])
    signed = {name: ",".join(http.headers.getlist(name)) for name in match["headers"].split(";")}
    request = AWSRequest(http.method, str(http.url), headers=signed, data=body)
    request.context["timestamp"] = http.headers.get("x-amz-date", "")
    text = auth.string_to_sign(request, auth.canonical_request(request))
    if not sigv4.same_signature(auth.signature(text, request), match["signature"]):
        raise S3Error("SignatureDoesNotMatch")


def _refusal(http: HttpRequest, error: S3Error) -> Response:
    code = _CODES.get(error.code, error.code)
    if "x-amz-target" in http.headers:
        body = json.dumps({"__type": code, "message": error.message})
        return Response(body, 403, media_type="application/x-amz-json-1.0")
    xml = (
        f"<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code>"
        f"<Message>{escape(error.message)}</Message></Error></ErrorResponse>"
    )
    return Response(xml, 403, media_type="text/xml")
