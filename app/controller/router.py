"""The routers that routes are written on."""

from typing import Any

from fastapi import APIRouter


class Router(APIRouter):
    """The framework's, but JSON needs no Content-Type: the original's clients send none."""

    def __init__(self, **options: Any) -> None:
        super().__init__(strict_content_type=False, **options)
