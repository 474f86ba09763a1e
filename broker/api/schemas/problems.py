"""Problems (RFC 9457)."""

from typing import Literal

from pydantic import BaseModel, ConfigDict


class ProblemDocument(BaseModel):
    """A problem (RFC 9457). Further members depend on `type`."""

    model_config = ConfigDict(extra="allow", defer_build=True)

    type: str
    title: str
    status: int
    detail: str
    success: Literal[False]


class RefusedUpload(ProblemDocument):
    """The problem of one upload among several."""
