"""The description of the API for people, in the browser; everything it needs comes from here."""

from functools import cache
from importlib.resources import files
from typing import Literal

from fastapi import Response
from fastapi.responses import HTMLResponse

from app.controller.router import Router
from app.version import NAME

router = Router(include_in_schema=False)

_PAGE = f"""<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{NAME}</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="docs/swagger-ui.css">
<div id="docs"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</html>
"""
_START = 'SwaggerUIBundle({url: "openapi.json", dom_id: "#docs", deepLinking: true, validatorUrl: null});\n'
# Scripts of this service alone, so that nothing that stands in the description could run; the page is given a key.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@router.get("/docs")
async def docs() -> HTMLResponse:
    """The page."""
    return HTMLResponse(_PAGE, headers={"Content-Security-Policy": _POLICY})


@router.get("/docs/{name}")
async def asset(name: Literal["swagger-ui.css", "swagger-ui-bundle.js", "start.js"]) -> Response:
    """What the page consists of."""
    media_type = "text/css" if name.endswith(".css") else "text/javascript"
    return Response(_START if name == "start.js" else _asset(name), media_type=media_type)


@cache
def _asset(name: str) -> bytes:
    return (files("fastapi_swagger") / "resources" / name).read_bytes()
