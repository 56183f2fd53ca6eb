"""What tells ChatGLM3's and GLM-4's tools apart: how the model is told of them, and how it writes arguments."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from msgspec.structs import replace

from services.inference.chatglm import python_call
from services.inference.engine import Constraint, JsonSchema, Regex
from services.inference.message import Message
from services.inference.tool import Tool, ToolUse

_CHATGLM3 = "Answer the following questions as best as you can. You have access to the following tools:"
_CHATGLM3_REQUIRED = "Answer by calling the following tools:"
_GLM4 = (
    "你是一个名为 ChatGLM 的人工智能助手。你是基于智谱AI训练的语言模型 GLM-4 模型开发的，"
    "你的任务是针对用户的问题和要求提供适当的答复和支持。\n\n# 可用工具"
)
_GLM4_REQUIRED = "\n\n你必须调用上述工具来回答。"


@dataclass(frozen=True, slots=True)
class ToolStyle:
    """One generation's.

    Attributes:
        announce: the messages with a system message that tells of the tools.
        read: from what follows a tool's name to the arguments, a JSON object; None for what is not arguments.
        write: the other way round; None where arguments stay as they are.
        pattern: regular expression for what follows a tool's name and the end of its line.
        alone: what holds an answer to that, where the name's line is the prompt's.
    """

    announce: Callable[[Sequence[Message], ToolUse], Sequence[Message]]
    read: Callable[[str], str | None]
    write: Callable[[dict[str, Any]], str] | None
    pattern: str
    alone: Constraint


def _announce_chatglm3(messages: Sequence[Message], tools: ToolUse) -> Sequence[Message]:
    """The list of tools ends the first system message."""
    listed = json.dumps([tool.described() for tool in tools.offered], indent=4, ensure_ascii=False)
    told = f"{_CHATGLM3_REQUIRED if tools.choice == 'required' else _CHATGLM3}\n{listed}"
    if messages and messages[0].role == "system":
        return [replace(messages[0], content=f"{messages[0].content}\n{told}"), *messages[1:]]
    return [Message("system", told), *messages]


def _announce_glm4(messages: Sequence[Message], tools: ToolUse) -> Sequence[Message]:
    """A system message of its own comes before all others."""
    told = _GLM4 + "".join(map(_described, tools.offered))
    if tools.choice == "required":
        told += _GLM4_REQUIRED
    return [Message("system", told), *messages]


def _described(tool: Tool) -> str:
    schema = json.dumps(tool.described(), ensure_ascii=False, indent=4)
    return f"\n\n## {tool.name}\n\n{schema}\n在调用上述函数时，请使用 Json 格式表示调用的参数。"


def read_json(text: str) -> str | None:
    """The text itself, trimmed, where it is a JSON object; else None."""
    try:
        value = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    return text.strip() if isinstance(value, dict) else None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


_PYTHON = python_call.PATTERN
CHATGLM3 = ToolStyle(_announce_chatglm3, python_call.read, python_call.write, _PYTHON, Regex(_PYTHON))
GLM4 = ToolStyle(_announce_glm4, read_json, None, r"\{[\s\S]*\}", JsonSchema('{"type": "object"}'))
