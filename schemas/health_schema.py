"""Answers of the open routes."""

from pydantic import BaseModel


class Alive(BaseModel):
    """The process answers."""

    status: str = "ok"


class Readiness(BaseModel):
    """Whether the service can answer, and in a sentence what it does instead."""

    status: str
    detail: str


class Welcome(BaseModel):
    """What this is and where to look next. `notice` says when the model is only a demo."""

    message: str
    version: str
    model: str | None
    docs: str
    health: str
    ready: str
    notice: str | None
