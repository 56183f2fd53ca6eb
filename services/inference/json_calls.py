"""Calls as objects in JSON: between tags, as Hermes and Qwen write them, or as the whole message, as Llama 3 does."""

import json
from typing import Any

from services.inference.call_format import AnswerPart, any_name
from services.inference.engine import Constraint, Regex
from services.inference.message import ToolCall
from services.inference.strict_calls import strict_calls
from services.inference.tool import ToolUse

_BEGIN, _END = "<tool_call>", "</tool_call>"
_OBJECT = r"\{[\s\S]*\}"


class TaggedCalls:
    """`<tool_call>{"name": …, "arguments": {…}}</tool_call>`, any number of them, after a text or without one."""

    separator: str | None = None

    def opening(self, tools: ToolUse) -> str:
        """The call up to its arguments, or up to its name where there is a choice of tools."""
        if tools.forced is not None:
            return f'{_BEGIN}\n{{"name": "{tools.forced}", "arguments": '
        return f'{_BEGIN}\n{{"name": "' if tools.choice == "required" else ""

    def constraint(self, tools: ToolUse) -> Constraint | None:
        """The rest of the object, and the tag that closes it."""
        rest = rf"{_OBJECT}\s*\}}\s*{_END}"
        if tools.forced is not None:
            return Regex(rest)
        return Regex(rf'{any_name(tools)}", "arguments": {rest}') if tools.choice == "required" else None

    def strict_constraint(self, tools: ToolUse) -> Constraint | None:
        """The same, the arguments by their schemas."""
        return _strict(tools, "arguments", r"\s*\}\s*<\/tool_call>")

    def parser(self, tools: ToolUse) -> "TaggedParser":
        """A parser for one message."""
        return TaggedParser(frozenset(tool.name for tool in tools.offered))


class TaggedParser:
    """Lets text pass, and holds what lies between the tags. Whitespace before and after a call is dropped."""

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names
        self._held = ""
        self._searched = 0
        self._calls = self._called = False

    def push(self, text: str) -> list[AnswerPart]:
        """Text that cannot be the beginning of a call, and calls that are whole."""
        self._held += text
        parts: list[AnswerPart] = []
        while True:
            tag = _END if self._calls else _BEGIN
            at = self._held.find(tag, self._searched)
            if at < 0:
                break
            before, self._held, self._searched = self._held[:at], self._held[at + len(tag) :], 0
            if self._calls:
                parts.append(_call(before, "arguments", self._names) or f"{_BEGIN}{before}{_END}")
            else:
                parts.append(before.rstrip())
            self._calls, self._called = not self._calls, True
        if self._calls:
            self._searched = max(0, len(self._held) - len(_END) + 1)
        else:
            end = len(self._held) - _kept(self._held)
            parts.append(self._held[:end])
            self._held = self._held[end:]
        return parts

    def end(self) -> list[AnswerPart]:
        """What never became a call."""
        if self._calls:
            return [f"{_BEGIN}{self._held}"]
        return [self._held.rstrip() if self._called else self._held]


class WholeCalls:
    """`{"name": …, "parameters": {…}}`, and nothing else."""

    separator: str | None = None

    def opening(self, tools: ToolUse) -> str:
        """The call up to its parameters, or up to its name where there is a choice of tools."""
        if tools.forced is not None:
            return f'{{"name": "{tools.forced}", "parameters": '
        return '{"name": "' if tools.choice == "required" else ""

    def constraint(self, tools: ToolUse) -> Constraint | None:
        """The rest of the object."""
        rest = rf"{_OBJECT}\s*\}}"
        if tools.forced is not None:
            return Regex(rest)
        return Regex(rf'{any_name(tools)}", "parameters": {rest}') if tools.choice == "required" else None

    def strict_constraint(self, tools: ToolUse) -> Constraint | None:
        """The same, the parameters by their schemas."""
        return _strict(tools, "parameters", r"\s*\}")

    def parser(self, tools: ToolUse) -> "WholeParser":
        """A parser for one message."""
        return WholeParser(frozenset(tool.name for tool in tools.offered))


class WholeParser:
    """Holds a message that begins as a JSON object does; lets any other pass."""

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names
        self._held: list[str] = []
        self._calls = self._streams = False

    def push(self, text: str) -> list[AnswerPart]:
        """The text, unless it may be a call."""
        if self._streams:
            return [text]
        self._held.append(text)
        if self._calls or not text.strip():
            return []
        self._calls = text.lstrip().startswith("{")
        self._streams = not self._calls
        return ["".join(self._held)] if self._streams else []

    def end(self) -> list[AnswerPart]:
        """The call; or the text, if it is none."""
        if self._streams:
            return []
        text = "".join(self._held)
        return [_call(text, "parameters", self._names) or text]


def _strict(tools: ToolUse, key: str, after: str) -> Constraint | None:
    if tools.forced is not None:
        return strict_calls(tools, lambda _tool: "", after)
    if tools.choice == "required":
        return strict_calls(tools, lambda tool: f'{tool.name}", "{key}": ', after)
    return None


def _call(text: str, key: str, names: frozenset[str]) -> ToolCall | None:
    try:
        value: Any = json.loads(text)
        name, arguments = value["name"], value[key]
        if name not in names or not isinstance(arguments, dict):
            return None
        return ToolCall(name, json.dumps(arguments, ensure_ascii=False, allow_nan=False))
    except (ValueError, LookupError, TypeError, RecursionError):
        return None


def _kept(text: str) -> int:
    """How many of the last characters may be the whitespace before a tag, or the beginning of one."""
    begun = next((size for size in range(len(_BEGIN) - 1, 0, -1) if text.endswith(_BEGIN[:size])), 0)
    rest = text[: len(text) - begun]
    return begun + len(rest) - len(rest.rstrip())
