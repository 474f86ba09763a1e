"""The configuration that all response bodies share, and their serializers."""

from typing import Any

from pydantic import ConfigDict, TypeAdapter
from pydantic_core import SchemaSerializer

EXAMPLE_ID = "01980f2c-6b1e-7c3a-9d52-0f6a4f1be7a3"


def answer_config(**example: Any) -> ConfigDict:
    """Return the configuration of a response body; FastAPI only describes it, so no validator is built."""
    return ConfigDict(json_schema_extra={"examples": [example]}, defer_build=True)


def serializer(answer: Any) -> SchemaSerializer:
    """Return a serializer for a response body, a typed dictionary."""
    adapter: TypeAdapter[Any] = TypeAdapter(answer)
    adapter.rebuild()  # its bodies defer their build; without this the adapter would keep a placeholder
    return adapter.serializer
