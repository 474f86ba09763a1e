"""Read the multipart/form-data of a POST Object as a stream: fields first, the file last.

Source: Amazon S3 API Reference, "POST Object"; RFC 7578.
"""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from email.message import Message

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from broker.dev.s3.errors import S3Error, invalid_argument

PRE_DATA_BYTES_MAX = 20_480


@dataclass(slots=True)
class Form:
    """The fields of a form, by lower-case name, and the name of the file that follows them."""

    fields: dict[str, str] = field(default_factory=dict)
    filename: str = ""

    def expand_filename(self) -> None:
        """Put the file's name, without any directories, in the place of `${filename}` in every field."""
        basename = self.filename.replace("\\", "/").rpartition("/")[2]
        self.fields = {name: value.replace("${filename}", basename) for name, value in self.fields.items()}


class FormReader:
    """Read one form: `fields()` up to the file, then `file()` chunk by chunk.

    What follows the file is ignored.
    """

    def __init__(self, content_type: str, body: AsyncIterator[bytes]) -> None:
        kind, options = parse_options_header(content_type)
        if kind != b"multipart/form-data":
            raise S3Error(
                "PreconditionFailed",
                Condition="Bucket POST must be of the enclosure-type multipart/form-data",
            )
        if not (boundary := options.get(b"boundary")):
            raise S3Error("MalformedPOSTRequest")
        self._body = body
        self._form = Form()
        self._header_name, self._header_value = bytearray(), bytearray()
        self._headers = Message()
        self._name = ""
        self._value = bytearray()
        self._in_file = self._file_ended = False
        self._file_chunks: list[bytes] = []
        self._pre_data_bytes = 0
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin_part,
                "on_header_field": lambda data, start, end: self._header_name.extend(data[start:end]),
                "on_header_value": lambda data, start, end: self._header_value.extend(data[start:end]),
                "on_header_end": self._end_header,
                "on_headers_finished": self._end_headers,
                "on_part_data": self._part_data,
                "on_part_end": self._end_part,
            },
        )

    async def fields(self) -> Form:
        """Return the fields that stand before the file, at most 20 KB of form data."""
        async for chunk in self._body:
            self._feed(chunk)
            if self._in_file:
                return self._form
        raise S3Error(
            "InvalidArgument",
            "POST requires exactly one file upload per request.",
            ArgumentName="file",
            ArgumentValue=0,
        )

    async def file(self) -> AsyncIterator[bytes]:
        """Yield the file's bytes; a body that ends within the file is refused."""
        for chunk in self._taken():
            yield chunk
        async for data in self._body:
            if not self._file_ended:
                self._feed(data)
                for chunk in self._taken():
                    yield chunk
        if not self._file_ended:
            raise S3Error("IncompleteBody")

    def _taken(self) -> Iterator[bytes]:
        chunks, self._file_chunks = self._file_chunks, []
        yield from chunks

    def _feed(self, data: bytes) -> None:
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise S3Error("MalformedPOSTRequest") from error

    def _begin_part(self) -> None:
        self._headers = Message()
        self._value.clear()

    def _count_pre_data(self, size: int) -> None:
        self._pre_data_bytes += size
        if self._pre_data_bytes > PRE_DATA_BYTES_MAX:
            raise S3Error("MaxPostPreDataLengthExceeded", MaxPostPreDataLength=PRE_DATA_BYTES_MAX)

    def _end_header(self) -> None:
        if not self._in_file:
            self._count_pre_data(len(self._header_name) + len(self._header_value))
        self._headers[self._header_name.decode("latin-1")] = self._header_value.decode("utf-8", "replace")
        self._header_name.clear()
        self._header_value.clear()

    def _end_headers(self) -> None:
        if self._in_file:
            return
        disposition = str(self._headers.get("content-disposition", ""))
        _, options = parse_options_header(disposition.encode())
        self._name = options.get(b"name", b"").decode("utf-8", "replace").lower()
        if not self._name:
            raise S3Error("MalformedPOSTRequest")
        if self._name == "file":
            self._form.filename = options.get(b"filename", b"").decode("utf-8", "replace")
            self._in_file = True

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._file_ended:
            return
        if self._in_file:
            self._file_chunks.append(data[start:end])
            return
        self._count_pre_data(end - start)
        self._value += data[start:end]

    def _end_part(self) -> None:
        if self._in_file:
            self._file_ended = True
            return
        if self._name in self._form.fields:
            raise invalid_argument(
                "Conflicting or duplicate field in the POST form.", self._name, self._form.fields[self._name]
            )
        try:
            self._form.fields[self._name] = self._value.decode()
        except UnicodeDecodeError:
            raise invalid_argument("A form field must be valid UTF-8.", self._name) from None
