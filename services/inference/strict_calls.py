"""Calls whose arguments keep to their tool's schema: constraints of answers in which a call is required."""

import json
from collections.abc import Callable

from services.inference.constraint import WHITESPACE
from services.inference.engine import Grammar
from services.inference.tool import Tool, ToolUse


def strict_calls(tools: ToolUse, before: Callable[[Tool], str], after: str) -> Grammar:
    """A call of an offered tool: what comes before its arguments, arguments that its schema allows, what follows.

    Args:
        tools: with at least one offered. The arguments of one that is not strict are any object.
        before: what the answer holds up to a tool's arguments.
        after: a regular expression for what follows them.
    """
    numbered = list(enumerate(tools.offered))
    rules = [f"start: {' | '.join(f'call_{number}' for number, _ in numbered)}"]
    for number, tool in numbered:
        begin = f"{json.dumps(before(tool))} " if before(tool) else ""
        end = f" /{after}/" if after else ""
        rules += [f"call_{number}: {begin}arguments_{number}{end}", f"arguments_{number}: %json {_schema(tool)}"]
    return Grammar("\n".join(rules))


def _schema(tool: Tool) -> str:
    schema = dict(tool.parameters or {}) if tool.strict else {}
    return json.dumps({"type": "object", **schema, "x-guidance": {"whitespace_pattern": WHITESPACE}})
