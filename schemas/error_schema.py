"""Errors as OpenAI shapes them."""

from pydantic import BaseModel


class ErrorDetail(BaseModel):
    """All four are always there."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorEnvelope(BaseModel):
    """The body of every answer that is not 2xx, and the last event of a stream that ended badly."""

    error: ErrorDetail
