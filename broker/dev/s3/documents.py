"""The XML documents that clients send."""

from collections.abc import Iterator
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from broker.dev.s3.errors import S3Error


def parse_xml(body: bytes, root: str) -> Element:
    """Parse a document whose root element must be `root`; anything else is `MalformedXML`."""
    element = parse_any_xml(body)
    if _local(element) != root:
        raise S3Error("MalformedXML")
    return element


def parse_any_xml(body: bytes) -> Element:
    """Parse a document with any root element; text that is not well-formed is `MalformedXML`."""
    try:
        element: Element = fromstring(body)
    except (ParseError, DefusedXmlException, ValueError):
        raise S3Error("MalformedXML") from None
    return element


def children(element: Element, name: str) -> Iterator[Element]:
    """Yield the children with a local name, in any namespace."""
    return (child for child in element if _local(child) == name)


def text(element: Element, name: str, default: str | None = None) -> str:
    """Return the text of a child. Raises `MalformedXML` if it is absent and there is no default."""
    child = next(children(element, name), None)
    if child is None:
        if default is None:
            raise S3Error("MalformedXML")
        return default
    return child.text or ""


def _local(element: Element) -> str:
    return str(element.tag).rpartition("}")[2]
