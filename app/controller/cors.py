"""Which web pages may call: their browsers ask, and are told."""

from collections.abc import Sequence

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from app.controller.request_id import DURATION, HEADER

# What scripts may read of an answer besides what browsers always show.
EXPOSED = (
    HEADER,
    DURATION,
    "retry-after",
    "retry-after-ms",
    "x-should-retry",
    "idempotent-replayed",
    *(f"x-ratelimit-{what}-{of}" for what in ("limit", "remaining", "reset") for of in ("requests", "tokens")),
)


def allow_origins(app: FastAPI, origins: Sequence[str]) -> None:
    """Let pages of these origins call; of all for `*`, of none for none.

    They need a key like everybody else: nothing that a browser would send by itself, as cookies, lets anybody in.
    """
    if origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=("GET", "POST", "PATCH", "DELETE"),
            # Any: OpenAI's client sends a dozen of its own, and others with each version.
            allow_headers=("*",),
            expose_headers=EXPOSED,
        )
