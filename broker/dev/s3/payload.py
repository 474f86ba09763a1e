"""The body of a signed request: whole, or in the chunks in which the SDKs stream it.

Source: Amazon S3 API Reference, "Signature Calculations for the Authorization Header: Transferring Payload in
Multiple Chunks (Chunked Upload)" and the page on trailing headers.
"""

import hashlib
import re
from collections.abc import AsyncIterator

from broker.dev.s3.auth import Signed
from broker.dev.s3.canonical import empty_digest
from broker.dev.s3.checksums import Digests, declared, declared_md5
from broker.dev.s3.errors import S3Error, invalid_argument
from broker.dev.s3.request import Request
from broker.domain.s3 import sigv4

SIGNED_CHUNKS = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
TRAILER_SUFFIX = "-TRAILER"
UNSIGNED_CHUNKS = "STREAMING-UNSIGNED-PAYLOAD" + TRAILER_SUFFIX
_LINE_BYTES_MAX = 8192


class Payload:
    """The body of a request, verified while it is read: a mismatch raises at its end.

    `trailers` holds the checksum headers that follow a body in chunks, once it has been read.
    """

    def __init__(self, request: Request, signed: Signed) -> None:
        self._request, self._signed = request, signed
        self._previous = signed.signature
        self.trailers: dict[str, str] = {}

    @property
    def in_chunks(self) -> bool:
        """Return whether the body has the aws-chunked encoding."""
        return self._signed.payload_hash.startswith("STREAMING-")

    def decoded_length(self) -> int:
        """Return the declared size of a chunked body, without the framing of the chunks."""
        length = self._request.headers.get("x-amz-decoded-content-length")
        if length is None:
            raise S3Error("MissingContentLength")
        if not re.fullmatch(r"[0-9]{1,18}", length):
            raise invalid_argument("The value is not a valid length.", "x-amz-decoded-content-length", length)
        return int(length)

    def chunks(self) -> AsyncIterator[bytes]:
        """Return the chunks of the body, verified while they are read."""
        return self._decoded() if self.in_chunks else self._whole()

    async def read(self, size_max: int = 2 * 1024 * 1024, *, checksums_of_body: bool = True) -> bytes:
        """Return a small body, such as an XML document, compared with its declared checksums.

        The checksum headers of some requests are not about the body; its Content-MD5 always is.
        """
        expected = declared(self._request.headers) if checksums_of_body else {}
        digests = Digests(expected)
        body = bytearray()
        async for chunk in self.chunks():
            digests.update(chunk)
            body += chunk
            if len(body) > size_max:
                raise S3Error("MalformedXML")
        digests.compare(expected, declared_md5(self._request.headers))
        return bytes(body)

    async def _whole(self) -> AsyncIterator[bytes]:
        claimed = self._signed.payload_hash
        if claimed != sigv4.UNSIGNED_PAYLOAD and not re.fullmatch(r"[0-9a-f]{64}", claimed):
            raise S3Error(
                "InvalidArgument",
                "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, a STREAMING- value, or a valid sha256 value.",
                ArgumentName="x-amz-content-sha256",
                ArgumentValue=claimed,
            )
        digest = hashlib.sha256()
        async for chunk in self._request.body():
            if claimed != sigv4.UNSIGNED_PAYLOAD:
                digest.update(chunk)
            yield chunk
        if claimed not in (sigv4.UNSIGNED_PAYLOAD, digest.hexdigest()):
            raise S3Error(
                "XAmzContentSHA256Mismatch",
                ClientComputedContentSHA256=claimed,
                S3ComputedContentSHA256=digest.hexdigest(),
            )

    async def _decoded(self) -> AsyncIterator[bytes]:
        mode = self._signed.payload_hash
        if mode not in (SIGNED_CHUNKS, SIGNED_CHUNKS + TRAILER_SUFFIX, UNSIGNED_CHUNKS):
            raise S3Error("NotImplemented", Header="x-amz-content-sha256")
        source = _Source(self._request.body())
        total = 0
        while True:
            head = await source.line()
            size_text, _, extension = head.partition(";")
            if not re.fullmatch(r"[0-9a-fA-F]{1,8}", size_text):
                raise S3Error("IncompleteBody", "The chunk size could not be read.")
            size = remaining = int(size_text, 16)
            digest = hashlib.sha256()
            while remaining:
                piece = await source.some(remaining)
                remaining -= len(piece)
                digest.update(piece)
                yield piece
            if mode != UNSIGNED_CHUNKS:
                self._believe(
                    f"AWS4-HMAC-SHA256-PAYLOAD\n{self._scope}\n{self._previous}\n{empty_digest()}\n{digest.hexdigest()}",
                    extension.removeprefix("chunk-signature="),
                )
            total += size
            if size == 0:
                break
            if await source.line():
                raise S3Error("IncompleteBody")
        if mode.endswith(TRAILER_SUFFIX):
            await self._read_trailers(source, signed=mode != UNSIGNED_CHUNKS)
        if total != self.decoded_length():
            raise S3Error("IncompleteBody")

    async def _read_trailers(self, source: "_Source", *, signed: bool) -> None:
        text, signature = "", ""
        while line := await source.line():
            name, _, value = line.partition(":")
            name, value = name.strip().lower(), value.strip()
            if name == "x-amz-trailer-signature":
                signature = value
                continue
            self.trailers[name] = value
            text += f"{name}:{value}\n"
        announced = {name.strip() for name in self._request.headers.get("x-amz-trailer", "").lower().split(",")}
        if announced - {""} != set(self.trailers):
            raise S3Error("MalformedTrailerError", "The request contained trailing data that was not well-formed")
        if signed:
            digest = hashlib.sha256(text.encode()).hexdigest()
            self._believe(f"AWS4-HMAC-SHA256-TRAILER\n{self._scope}\n{self._previous}\n{digest}", signature)

    @property
    def _scope(self) -> str:
        return f"{sigv4.amz_date(self._signed.at)}\n{sigv4.scope(self._signed.at.date(), self._signed.region)}"

    def _believe(self, text: str, signature: str) -> None:
        expected = self._signed.sign(text)
        if not sigv4.same_signature(expected, signature):
            raise S3Error("SignatureDoesNotMatch", StringToSign=text, SignatureProvided=signature)
        self._previous = expected


class _Source:
    """Read lines and bytes from a stream."""

    def __init__(self, stream: AsyncIterator[bytes]) -> None:
        self._stream, self._buffer = stream, bytearray()

    async def _fill(self) -> None:
        async for chunk in self._stream:
            if chunk:
                self._buffer += chunk
                return
        raise S3Error("IncompleteBody")

    async def line(self) -> str:
        while (end := self._buffer.find(b"\r\n")) < 0:
            if len(self._buffer) > _LINE_BYTES_MAX:
                raise S3Error("IncompleteBody")
            await self._fill()
        line = self._buffer[:end].decode("latin-1")
        del self._buffer[: end + 2]
        return line

    async def some(self, size_max: int) -> bytes:
        if not self._buffer:
            await self._fill()
        piece = bytes(self._buffer[:size_max])
        del self._buffer[:size_max]
        return piece
