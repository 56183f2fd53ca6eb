"""`docs/openai.md` says what is so."""

import re
from pathlib import Path
from typing import Any

import pytest

from database.identifier import new_id
from tests.commands import REPOSITORY
from tests.openai_clients import MODEL
from tests.service import Service
from tests.test_controller.conftest import sqlite_service  # noqa: F401 - a fixture
from tools.openai_api import endpoints
from tools.openai_table import described, document, main, parameters_here, verdict

DESCRIPTION = described()
NULL, TEXT = {"type": "null"}, {"type": "string"}


def test_the_table_is_current() -> None:
    assert (REPOSITORY / "docs" / "openai.md").read_text(encoding="utf-8") == document(DESCRIPTION)


def test_openais_own_client_tells_the_endpoints_and_their_parameters() -> None:
    known = {(one.method, one.path): one.parameters for one in endpoints()}
    assert {"messages", "model", "stream", "web_search_options"} <= set(known["POST", "/v1/chat/completions"])
    assert set(known["GET", "/v1/conversations/{conversation_id}/items"]) == {"after", "include", "limit", "order"}
    assert known["DELETE", "/v1/responses/{response_id}"] == ()
    assert len(known) > 20


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        (None, "refused"),
        (NULL, "refused"),
        (TEXT, "honoured"),
        ({"anyOf": [TEXT, NULL]}, "honoured"),
        ({"anyOf": [TEXT, NULL], "description": "Changes nothing."}, "accepted, without effect"),
    ],
)
def test_the_verdict_follows_from_the_description(schema: dict[str, Any] | None, said: str) -> None:
    assert verdict(schema) == said


def test_checking_names_a_file_that_is_out_of_date_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "openai.md"
    path.write_text("old", encoding="utf-8")
    assert main(["--check", str(path)]) == 1
    assert path.read_text(encoding="utf-8") == "old"
    assert str(path) in capsys.readouterr().err
    assert main([str(path)]) == 0
    assert main(["--check", str(path)]) == 0


def example(path: str) -> dict[str, Any]:
    """A body that the route would take."""
    content = DESCRIPTION["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    schema = DESCRIPTION["components"]["schemas"][content["$ref"].rpartition("/")[2]]
    body: dict[str, Any] = dict(next(iter(schema.get("examples", [])), {}))
    return body | ({"model": MODEL} if "model" in schema["properties"] else {})


async def test_what_the_table_calls_refused_or_absent_is(sqlite_service: Service) -> None:  # noqa: F811
    checked = 0
    for endpoint in endpoints():
        path = re.sub(r"\{\w+\}", new_id(), endpoint.path)
        here = parameters_here(endpoint, DESCRIPTION)
        if here is None:
            absent = await sqlite_service.ours.request(endpoint.method, path)
            assert absent.status_code in {404, 405}, endpoint
            continue
        for name in endpoint.parameters:
            if verdict(here.get(name)) != "refused":
                continue
            if endpoint.method == "POST":
                refused = await sqlite_service.ours.post(path, json=example(endpoint.path) | {name: "x"})
            else:
                refused = await sqlite_service.ours.request(endpoint.method, path, params={name: "x"})
            assert refused.status_code == 400, (endpoint, name, refused.text)
            assert refused.json()["error"]["param"] == name, (endpoint, name, refused.text)
            checked += 1
    assert checked > 20
