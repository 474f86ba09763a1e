"""The multipart/form-data of POST Object, read as a stream: fields first, the file last.

Source: Amazon S3 API Reference, "POST Object"; RFC 7578.
"""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field

from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header

from broker.dev.s3.errors import S3Error, invalid_argument

PRE_DATA_BYTES_MAX = 20_480


@dataclass(slots=True)
class Form:
    """The fields of a form, by lower-case name, and the name of its file; None if the file part has none."""

    fields: dict[str, str] = field(default_factory=dict)
    filename: str | None = None

    def expand_filename(self) -> None:
        """Replace `${filename}` in every field by the file's name, without its directories.

        A file part without a name leaves the fields as they are.
        """
        if self.filename is None:
            return
        basename = self.filename.replace("\\", "/").rpartition("/")[2]
        self.fields = {name: value.replace("${filename}", basename) for name, value in self.fields.items()}


class FormReader:
    """Read one form: `fields()` up to the file, then `file()` chunk by chunk.

    What follows the file is ignored.
    """

    def __init__(self, content_type: str, body: AsyncIterator[bytes]) -> None:
        kind, options = parse_options_header(content_type)
        if kind != "multipart/form-data":
            raise S3Error(
                "PreconditionFailed",
                Condition="Bucket POST must be of the enclosure-type multipart/form-data",
            )
        if not (boundary := options.get("boundary")):
            raise S3Error("MalformedPOSTRequest")
        self._body = body
        self._form = Form()
        self._name = ""
        self._value = bytearray()
        self._in_file = self._file_ended = False
        self._file_chunks: list[bytes] = []
        self._pre_data_bytes = 0
        try:
            self._parser = PushMultipartParser(boundary, max_header_size=PRE_DATA_BYTES_MAX, strict=True)
        except MultipartError as error:
            raise S3Error("MalformedPOSTRequest") from error

    async def fields(self) -> Form:
        """Return the fields before the file, at most 20 KB of form data."""
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
        """Parse one chunk of the body: beginnings, data and ends of parts, in their order."""
        if not data:
            return
        try:
            for event in self._parser.parse(data):
                if self._file_ended:
                    return
                match event:
                    case MultipartSegment():
                        self._begin_part(event)
                    case None:
                        self._end_part()
                    case _:
                        self._part_data(bytes(event))
        except MultipartError as error:
            raise S3Error("MalformedPOSTRequest") from error

    def _begin_part(self, part: MultipartSegment) -> None:
        self._count_pre_data(sum(len(name) + len(value) for name, value in part.headerlist))
        self._name = part.name.lower()
        self._value.clear()
        if self._name == "file":
            self._form.filename = part.filename
            self._in_file = True

    def _part_data(self, data: bytes) -> None:
        if self._in_file:
            self._file_chunks.append(data)
            return
        self._count_pre_data(len(data))
        self._value += data

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

    def _count_pre_data(self, size: int) -> None:
        self._pre_data_bytes += size
        if self._pre_data_bytes > PRE_DATA_BYTES_MAX:
            raise S3Error("MaxPostPreDataLengthExceeded", MaxPostPreDataLength=PRE_DATA_BYTES_MAX)
