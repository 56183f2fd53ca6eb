"""The OpenAPI description is valid, and the routes keep to it whatever they are sent."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from app.main import create_app
from app.settings import Settings
from tests.openai_clients import MODEL, key_of
from tests.service import SECRET, Service

# `make fuzz` sets it: so many random requests for each route, besides those at its bounds and those that go together.
EXAMPLES = os.environ.get("FUZZ_EXAMPLES")
# The same each time.
FEW = "--phases fuzzing --max-examples 8 --generation-deterministic"
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
)
# What is too long may be refused as such before anything else of it is looked at.
CONFIGURATION = """
[checks]
negative_data_rejection.expected-statuses = [400, 401, 403, 404, 405, 409, 413, 414, 415, 429, "5xx"]
"""


def description() -> dict[str, Any]:
    settings = Settings(_env_file=None, secret=SECRET.decode())
    return create_app(settings, secret=SECRET, engine_socket=Path("/nowhere"), instance="0" * 32).openapi()


def test_the_description_stays_the_same_however_often_it_is_asked_for() -> None:
    settings = Settings(secret=SECRET.decode())
    app = create_app(settings, secret=SECRET, engine_socket=Path("/nowhere"), instance="0" * 32)
    first = json.dumps(app.openapi())
    assert json.dumps(app.openapi()) == first


def test_the_description_is_valid_openapi() -> None:
    described = description()
    assert described["openapi"].startswith("3.1.")
    assert [str(error) for error in OpenAPIV31SpecValidator(described).iter_errors()] == []


def with_our_model(described: dict[str, Any]) -> dict[str, Any]:
    """The description for a service of which one knows the model, or hardly any request would get to it."""
    for schema in described["components"]["schemas"].values():
        if "model" in schema.get("properties", {}):
            required = "model" in schema.get("required", [])
            schema["properties"]["model"] = {"enum": [MODEL] if required else [MODEL, None]}
        for example in schema.get("examples", []):
            example["model"] = MODEL
    return described


@pytest.mark.timeout(1800 if EXAMPLES else 240)
@pytest.mark.parametrize("administrator", [False, True], ids=["caller", "administrator"])
async def test_no_route_breaks_or_answers_what_it_does_not_declare(
    sqlite_service: Service, tmp_path: Path, administrator: bool
) -> None:
    service = sqlite_service
    key = service.admin.headers["authorization"].removeprefix("Bearer ") if administrator else key_of(service)
    path = tmp_path / "openapi.json"
    path.write_text(json.dumps(with_our_model(description())))
    (tmp_path / "schemathesis.toml").write_text(CONFIGURATION)
    amount = f"--phases coverage,fuzzing,stateful --max-examples {EXAMPLES}" if EXAMPLES else FEW
    options = f"{amount} --checks {','.join(CHECKS)} --continue-on-failure --no-color --request-timeout 60"
    chosen = "--include-path-regex" if administrator else "--exclude-path-regex"
    command = ["-m", "schemathesis.cli", "run", str(path), "--url", service.url, chosen, "^/admin", *options.split()]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *command, "--header", f"Authorization: Bearer {key}"),
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    assert b"returned only 401/403" not in output, output.decode()
