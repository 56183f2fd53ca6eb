"""Whether a call's arguments are what its tool's schema allows, for tools that want to be called only so."""

import json
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from llguidance import LLMatcher, LLTokenizer

from services.inference.constraint import LIMITS, ConstraintError, check, grammar
from services.inference.engine import JsonSchema
from services.inference.message import ToolCall
from services.inference.tool import Tool

# As far as a reference leads to another one.
_MOST_REFERENCES = 32


class StrictArguments:
    """The schemas of a request's strict tools.

    What constrains answers checks them too: it takes as little of a schema that was made to take long.
    """

    def __init__(self, tools: Iterable[Tool]) -> None:
        """Takes a while. Raises ConstraintError for a schema that nothing can meet, or be checked against."""
        self._schemas = {tool.name: tool.parameters or {"type": "object"} for tool in tools if tool.strict}
        self._matchers = {name: _matcher(name, schema) for name, schema in self._schemas.items()}

    def allow(self, call: ToolCall) -> bool:
        """Whether they allow this call; of a tool that is not strict they allow any."""
        schema = self._schemas.get(call.name)
        if schema is None:
            return True
        try:
            value = _ordered(json.loads(call.arguments), schema, schema)
            text = json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
        except (ValueError, RecursionError):
            return False
        matcher = self._matchers[call.name].deep_copy()
        return matcher.try_consume_tokens(list(text)) == len(text) and matcher.is_accepting()


def _matcher(name: str, schema: Mapping[str, Any]) -> LLMatcher:
    constraint = JsonSchema(json.dumps(schema, ensure_ascii=False))
    try:
        check(constraint)
    except ConstraintError as error:
        raise ConstraintError(f"{name}: {error}") from error
    return LLMatcher(_bytes(), grammar(constraint), limits=LIMITS)


@cache
def _bytes() -> LLTokenizer:
    return LLTokenizer("byte")


def _ordered(value: Any, schema: Any, root: Mapping[str, Any]) -> Any:
    """The same value as the grammar of its schema writes it: properties in the schema's order, 1.0 as 1."""
    schema = _resolved(value, schema, root)
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        names = [*(name for name in properties if name in value), *(name for name in value if name not in properties)]
        return {name: _ordered(value[name], properties.get(name), root) for name in names}
    if isinstance(value, list):
        return [_ordered(one, schema.get("items"), root) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _resolved(value: Any, schema: Any, root: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a schema says of this value itself, references followed; of several that may apply, the first that fits."""
    for _ in range(_MOST_REFERENCES):
        if not isinstance(schema, dict):
            return {}
        choices = schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf")
        if "$ref" in schema:
            schema = _target(str(schema["$ref"]), root)
        elif isinstance(choices, list) and "properties" not in schema:
            found = [_resolved(value, choice, root) for choice in choices]
            return next((one for one in found if _fits(value, one)), {})
        else:
            return schema
    return {}


def _target(reference: str, root: Mapping[str, Any]) -> Any:
    found: Any = root
    for step in reference.removeprefix("#").strip("/").split("/"):
        found = found.get(step, {}) if step and isinstance(found, dict) else found
    return found


def _fits(value: Any, schema: Mapping[str, Any]) -> bool:
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        return value.keys() <= properties.keys() and set(schema.get("required", ())) <= value.keys()
    return isinstance(value, list) and "items" in schema
