"""Strict tools: what their schemas allow, as an independent validator says it, in whatever order it was written."""

import itertools
import json
from typing import Any, Literal

import jsonschema
import pytest
from pydantic import BaseModel, Field

from services.inference.constraint import ConstraintError
from services.inference.message import ToolCall
from services.inference.strict_arguments import StrictArguments
from services.inference.tool import Tool


class Place(BaseModel):
    """As clients make schemas: with references."""

    city: str = Field(max_length=8)
    at: tuple[int, ...] = ()


class Trip(BaseModel):
    """A journey."""

    places: list[Place]
    by: Literal["train", "ship"]
    budget: float | None
    guide: Place | None = None


PLAIN = {
    "type": "object",
    "properties": {"a": {"type": "string"}, "b": {"type": "integer"}, "c": {"type": "boolean"}},
    "required": ["a", "b"],
    "additionalProperties": False,
}
CASES: list[tuple[dict[str, Any], Any]] = [
    (PLAIN, {"a": "北京 👩‍🚀", "b": 1}),
    (PLAIN, {"a": '"\n\\', "b": -1, "c": True}),
    (PLAIN, {"a": "x", "b": 1.0}),
    (PLAIN, {"a": "x"}),
    (PLAIN, {"a": "x", "b": 1.5}),
    (PLAIN, {"a": "x", "b": "1"}),
    (PLAIN, {"a": "x", "b": 1, "d": 1}),
    (PLAIN, {}),
    (Trip.model_json_schema(), {"places": [], "by": "ship", "budget": None}),
    (Trip.model_json_schema(), {"places": [{"city": "Rome", "at": [1]}], "by": "train", "budget": 2.5, "guide": None}),
    (Trip.model_json_schema(), {"places": [], "by": "ship", "budget": 7, "guide": {"at": [], "city": "Rome"}}),
    (Trip.model_json_schema(), {"places": [], "by": "car", "budget": None}),
    (Trip.model_json_schema(), {"places": [{"at": [1]}], "by": "ship", "budget": None}),
    (Trip.model_json_schema(), {"places": [{"city": "much too long"}], "by": "ship", "budget": None}),
    ({"type": "object"}, {"anything": [1, None, {"b": 1, "a": 2}]}),
]  # fmt: skip


def strict(schema: dict[str, Any] | None) -> StrictArguments:
    return StrictArguments([Tool(name="f", parameters=schema, strict=True), Tool(name="g", parameters=PLAIN)])


@pytest.mark.parametrize(("schema", "value"), CASES)
def test_what_a_schema_allows_is_allowed_in_any_order(schema: dict[str, Any], value: dict[str, Any]) -> None:
    valid = jsonschema.Draft202012Validator(schema).is_valid(value)
    rules = strict(schema)
    for names in itertools.permutations(value):
        written = json.dumps({name: value[name] for name in names})
        assert rules.allow(ToolCall("f", written)) == valid, written


def test_a_tool_that_is_not_strict_may_be_called_with_anything() -> None:
    rules = strict(PLAIN)
    assert rules.allow(ToolCall("g", '{"a": 1}'))
    assert not rules.allow(ToolCall("f", '{"a": 1}'))
    assert strict(None).allow(ToolCall("f", '{"a": 1}'))


@pytest.mark.parametrize("written", ['{"a": "x", "b": 1e999}', '{"a": "\\ud800", "b": 1}', "nonsense", "[1]"])
def test_what_is_no_json_that_could_be_sent_is_not_allowed(written: str) -> None:
    assert not strict(PLAIN).allow(ToolCall("f", written))


@pytest.mark.parametrize("schema", [{"type": "nothing"}, {"$ref": "#/nowhere"}, {"type": "string", "pattern": "("}])
def test_a_schema_that_cannot_be_checked_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(ConstraintError, match=r"^f: "):
        strict(schema)


def test_references_that_lead_in_a_circle_come_to_an_end() -> None:
    schema = {"$defs": {"a": {"$ref": "#/$defs/a"}}, "type": "object", "properties": {"a": {"type": "string"}}}
    node = {"type": "object", "properties": {"next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}}}
    assert strict(schema).allow(ToolCall("f", '{"a": "x"}'))
    assert strict(node).allow(ToolCall("f", '{"next": {"next": {"next": null}}}'))
