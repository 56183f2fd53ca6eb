"""`python -m tools.openai_table FILE`: writes what of OpenAI's API there is here, and what is not.

With `--check` nothing is written; the exit status is 1 if the file is not what it would be.
"""

import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from json import dumps
from pathlib import Path
from typing import Any

from app.main import create_app
from app.settings import Settings
from tools.openai_api import Endpoint, endpoints

_HEAD = """# OpenAI's API here

Made by `make format` from the parameters that OpenAI's Python client {version} knows, and from this service's own
description. A parameter that is refused is answered with 400, and `param` names it; an endpoint that is absent with
404 or 405. What is said of a parameter is said of its values that are not null.
"""
_NO_EFFECT = "Changes nothing"
Schema = Mapping[str, Any]


def described() -> Schema:
    """This service's OpenAPI description."""
    settings = Settings(_env_file=None)
    return create_app(settings, secret=b"", engine_socket=Path(), instance="").openapi()


def document(description: Schema) -> str:
    """The whole file."""
    sections = [_section(endpoint, description) for endpoint in endpoints()]
    return "\n".join([_HEAD.format(version=version("openai")), *sections])


def parameters_here(endpoint: Endpoint, description: Schema) -> Mapping[str, Schema] | None:
    """What this service's route takes besides its path, by name; None if there is no such route."""
    operation = description["paths"].get(endpoint.path, {}).get(endpoint.method.lower())
    if operation is None:
        return None
    found: dict[str, Schema] = {
        # Lists are written so in a query.
        each["name"].removesuffix("[]"): each["schema"] | {"description": each.get("description", "")}
        for each in operation.get("parameters", ())
        if each["in"] == "query"
    }
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    for option in body.get("anyOf", [body]):
        name = option.get("$ref", "").rpartition("/")[2]
        found |= description["components"]["schemas"].get(name, {}).get("properties", {})
    return found


def verdict(schema: Schema | None) -> str:
    """What becomes of a parameter that this service describes so, or does not know."""
    if schema is None or not _options(schema):
        return "refused"
    return "accepted, without effect" if schema.get("description", "").startswith(_NO_EFFECT) else "honoured"


def _section(endpoint: Endpoint, description: Schema) -> str:
    here = parameters_here(endpoint, description)
    title = f"## `{endpoint.method} {endpoint.path}`\n"
    if here is None:
        return f"{title}\nAbsent.\n"
    names = [*endpoint.parameters, *(name for name in here if name not in endpoint.parameters)]
    if not names:
        return f"{title}\nHonoured; it takes no parameters.\n"
    rows = [f"| `{name}` | {verdict(here.get(name))} | {_note(endpoint, name, here.get(name))} |" for name in names]
    return "\n".join([title, "| Parameter | | |", "|---|---|---|", *rows, ""])


def _note(endpoint: Endpoint, name: str, schema: Schema | None) -> str:
    notes = [] if name in endpoint.parameters else ["Not OpenAI's."]
    if schema is not None and verdict(schema) != "refused":
        notes += [*_values(schema), schema.get("description", "")]
    return " ".join(filter(None, notes)).replace("|", "\\|")


def _values(schema: Schema) -> Iterator[str]:
    """Which values it may have, if they are few."""
    options = _options(schema)
    values = [value for each in options for value in ([each["const"]] if "const" in each else each.get("enum", ()))]
    if values and len(options) == 1:
        yield "Only " + ", ".join(f"`{dumps(value)}`" for value in values) + "."


def _options(schema: Schema) -> list[Schema]:
    """What it may be besides null."""
    return [each for each in schema.get("anyOf", [schema]) if each.get("type") != "null"]


def main(arguments: list[str]) -> int:
    """Write or check; the exit status."""
    (path,) = (Path(argument) for argument in arguments if argument != "--check")
    wanted = document(described())
    if path.exists() and path.read_text(encoding="utf-8") == wanted:
        return 0
    if "--check" in arguments:
        sys.stderr.write(f"{path} is out of date: run 'make format'.\n")
        return 1
    path.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
