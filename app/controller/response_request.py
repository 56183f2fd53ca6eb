"""From a request of `/v1/responses` to a turn."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from app.common.errors import InvalidRequest
from app.controller.completion_request import tool_use
from app.controller.response_items import said_items
from schemas.response_request_schema import (
    ResponseInput,
    ResponseRequest,
    ResponseTool,
    TextSettings,
    TokensQuestion,
)
from schemas.tool_schema import FunctionTool, NamedFunction, ToolChoice, ToolEntry
from services.chat_request import ChatRequest, ParamNames
from services.inference.engine import Constraint, JsonSchema, SamplingParams
from services.inference.tool import ToolUse
from services.response_service import ENDPOINT
from services.said_item import SaidItem

_NAMES = ParamNames(
    prompt="input",
    history="input",
    max_tokens="max_output_tokens",
    format="text.format",
    conversation="conversation",
)
_SETTINGS = {
    *("max_output_tokens", "temperature", "top_p", "top_logprobs", "include", "stream", "store"),
    *("truncation", "parallel_tool_calls", "background"),
}
# What is said, by whoever says it, is no parameter; a stored response shows it again.
_SHOWN = {"instructions", "tools", "tool_choice", "text", "safety_identifier", "prompt_cache_key"}
_RESPONSE_ID = re.compile(r"(?:resp_)?([0-9a-f]{32})")


def chat_request(body: ResponseRequest, known: Mapping[str, SaidItem]) -> ChatRequest:
    """The turn that is asked for; `known` is what its references refer to. Raises InvalidRequest or NotFound."""
    return ChatRequest(
        endpoint=ENDPOINT,
        parameters=_given(body, _SETTINGS),
        shown=_given(body, _SHOWN),
        model=body.model,
        stored=body.store is not False,
        background=bool(body.background),
        user=body.user,
        store=body.store,
        max_tokens=body.max_output_tokens,
        sampling=SamplingParams(
            temperature=1.0 if body.temperature is None else body.temperature,
            top_p=1.0 if body.top_p is None else body.top_p,
            logprobs=(body.top_logprobs or 0) if body.wants_logprobs else None,
            constraint=_constraint(body.text),
        ),
        one_call=body.parallel_tool_calls is False,
        metadata=body.metadata or {},
        **_prompt(body, known),
    )


def tokens_request(body: TokensQuestion, known: Mapping[str, SaidItem]) -> ChatRequest:
    """The turn of which only the prompt is wanted. Raises as `chat_request`."""
    return ChatRequest(endpoint=ENDPOINT, parameters={}, model=body.model, **_prompt(body, known))


def settings(body: ResponseRequest) -> dict[str, Any]:
    """All that a response shows of what the caller set."""
    return _given(body, _SETTINGS | _SHOWN)


def _given(body: ResponseRequest, names: set[str]) -> dict[str, Any]:
    return body.model_dump(include=names, exclude_none=True, by_alias=True)


def _prompt(body: ResponseInput, known: Mapping[str, SaidItem]) -> dict[str, Any]:
    conversation = body.conversation
    return {
        "items": said_items(body.input, known),
        "instructions": body.instructions,
        "tools": _tools(body),
        "conversation_id": None if conversation is None else conversation.id.removeprefix("conv_"),
        "previous_id": _previous(body.previous_response_id),
        "truncates": body.truncation == "auto",
        "stateless": conversation is None,
        "names": _NAMES,
    }


def _previous(response_id: str | None) -> str | None:
    if response_id is None:
        return None
    if (found := _RESPONSE_ID.fullmatch(response_id)) is None:
        # Whatever it is, it names no response.
        message = "A response's id is resp_ and 32 hexadecimal digits."
        raise InvalidRequest(message, param="previous_response_id", code="previous_response_not_found")
    return found[1]


def _tools(body: ResponseInput) -> ToolUse:
    choice = body.tool_choice
    if choice is None:
        return tool_use(_entries(body.tools or []), None)
    named = None if choice.name is None else NamedFunction(name=choice.name)
    return tool_use(_entries(body.tools or []), ToolChoice(type=choice.type, function=named))


def _entries(tools: Sequence[ResponseTool]) -> list[ToolEntry]:
    return [ToolEntry(type="function", function=FunctionTool(**tool.model_dump(exclude={"type"}))) for tool in tools]


def _constraint(wanted: TextSettings | None) -> Constraint | None:
    if wanted is None or wanted.format is None or wanted.format.type == "text":
        return None
    schema = wanted.format.json_schema or {"type": "object"}
    return JsonSchema(json.dumps(schema, ensure_ascii=False))
