"""The checksum rules of multipart uploads: at Create, of each part, and at Complete.

Source: Amazon S3 User Guide, "Checking object integrity in Amazon S3"; where it is silent, answers of AWS that others
recorded (LocalStack's snapshot tests).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from broker.dev.s3.checksums import (
    ALGORITHMS,
    COMPOSITE,
    FULL_OBJECT,
    HEADER_PREFIX,
    TYPE_HEADER,
    combined,
    composite,
    declared,
    header_name,
    invalid_value,
    is_checksum,
    mismatch,
    supported,
    written_values,
)
from broker.dev.s3.errors import S3Error, invalid_argument
from broker.dev.s3.object_write import asked_algorithm
from broker.dev.s3.parts import Part, Upload


@dataclass(frozen=True, slots=True)
class ListedPart:
    """A part as Complete lists it, with the checksums that it declares, by algorithm."""

    number: int
    etag: str
    checksums: dict[str, str]


def requested_checksum(headers: Mapping[str, str]) -> tuple[str, str]:
    """Return the checksum algorithm and type that Create asks for, both empty if it names no algorithm."""
    algorithm, checksum_type = headers.get(HEADER_PREFIX + "algorithm", "").upper(), _type(headers)
    if not algorithm:
        if checksum_type:
            raise S3Error(
                "InvalidRequest",
                "The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header.",
            )
        return "", ""
    types = ALGORITHMS[supported(algorithm)].types
    if checksum_type and checksum_type not in types:
        raise S3Error(
            "InvalidRequest",
            f"The {checksum_type} checksum type cannot be used with the {algorithm.lower()} checksum algorithm.",
        )
    return algorithm, checksum_type or types[0]


def part_algorithm(upload: Upload, headers: Mapping[str, str]) -> str:
    """Return the algorithm whose checksum UploadPart answers with.

    It must be the upload's own, if that has one. Only COMPOSITE uploads require that the part declares it.
    """
    is_declared = bool(declared(headers)) or headers.get("x-amz-trailer", "").lower().startswith(HEADER_PREFIX)
    algorithm = asked_algorithm(headers, default=upload.algorithm)
    if upload.named_algorithm and (algorithm != upload.algorithm or not (is_declared or upload.full_object)):
        actual = algorithm.lower() if is_declared else "null"
        raise S3Error(
            "InvalidRequest",
            f"Checksum Type mismatch occurred, expected checksum Type: {upload.algorithm.lower()}, "
            f"actual checksum Type: {actual}",
        )
    return algorithm


def check_request(upload: Upload, headers: Mapping[str, str]) -> None:
    """Refuse a Complete whose headers are ill-formed, or whose checksum type is not the upload's."""
    for algorithm, value in written_values(headers).items():
        if not is_checksum(algorithm, re.sub(r"-\d+$", "", value, flags=re.ASCII)):
            raise invalid_value(header_name(algorithm))
    checksum_type = _type(headers)
    if checksum_type and checksum_type != upload.checksum_type:
        raise S3Error(
            "InvalidRequest",
            f"The upload was created using the {upload.checksum_type or 'null'} checksum mode. "
            "The complete request must use the same checksum mode.",
        )


def check_listed(listed: ListedPart) -> None:
    """Refuse a listed part whose checksum is not one, or that declares several."""
    if len(listed.checksums) > 1 or not all(is_checksum(*item) for item in listed.checksums.items()):
        value = next(iter(listed.checksums.values()))
        if len(listed.checksums) > 1:
            value = "".join(f"{algorithm}:{checksum};" for algorithm, checksum in listed.checksums.items())
        raise invalid_argument("Invalid Base64 or multiple checksums present in request", "Checksum", value)


def check_part(upload: Upload, part: Part, listed: ListedPart) -> bool:
    """Tell whether the checksum that Complete lists of a part is right, or refuse it if it cannot be compared."""
    if not upload.named_algorithm:
        return not listed.checksums
    if (value := listed.checksums.get(upload.algorithm)) is not None:
        return value == part.checksum
    for algorithm in listed.checksums:
        raise S3Error(
            "BadDigest",
            f"The {algorithm.lower()} you specified for part {part.number} did not match what we received.",
        )
    if not upload.full_object:
        raise S3Error(
            "InvalidRequest",
            f"The upload was created using a {upload.algorithm.lower()} checksum. The complete request must include "
            f"the checksum for each part. It was missing for part {part.number} in the request.",
        )
    return True


def object_checksum(upload: Upload, parts: Sequence[Part]) -> str:
    """Return the checksum of the object that the parts make."""
    if upload.full_object:
        return combined(upload.algorithm, ((part.checksum, part.size) for part in parts))
    return composite(upload.algorithm, (part.checksum for part in parts))


def check_object(upload: Upload, checksum: str, headers: Mapping[str, str]) -> None:
    """Refuse a Complete with `BadDigest` if it declares another checksum of the object.

    A declared checksum is of its algorithm's default type, unless `x-amz-checksum-type` names the type. Without an
    algorithm at Create the header is ignored (recorded from AWS).
    """
    if not upload.named_algorithm:
        return
    for algorithm, value in written_values(headers).items():
        declared_type = _type(headers) or ALGORITHMS[algorithm].types[0]
        if (algorithm, declared_type, value) != (upload.algorithm, upload.checksum_type, checksum):
            raise mismatch(upload.algorithm.lower())


def _type(headers: Mapping[str, str]) -> str:
    value = headers.get(TYPE_HEADER, "").upper()
    if value not in ("", COMPOSITE, FULL_OBJECT):
        raise invalid_value(TYPE_HEADER)
    return value
