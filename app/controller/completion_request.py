"""From a request of `/v1/chat/completions` to a turn."""

import json
from collections.abc import Sequence

from msgspec.structs import replace

from app.common.errors import InvalidRequest
from app.controller.completion_messages import said_items
from app.controller.sampling import sampling
from schemas.completion_request_schema import CompletionRequest, ResponseFormat
from schemas.tool_schema import ToolChoice, ToolEntry
from services.chat_request import ChatRequest, ParamNames
from services.inference.engine import Constraint, JsonSchema, SamplingParams
from services.inference.message import PromptError
from services.inference.tool import Tool, ToolUse
from services.stored_completion_service import ENDPOINT

_NAMES = {"prompt": "messages", "history": "messages"}
# What is said, by whoever says it, is no parameter: it has a place of its own, or none.
_SAID = {
    *("messages", "model", "stop", "tools", "tool_choice", "response_format"),
    *("metadata", "user", "safety_identifier", "prompt_cache_key"),
}


def chat_request(body: CompletionRequest) -> ChatRequest:
    """The turn that is asked for. Raises InvalidRequest for messages or tools that do not belong together."""
    older = body.max_completion_tokens is None
    return ChatRequest(
        items=said_items(body.messages),
        endpoint=ENDPOINT,
        parameters=body.model_dump(exclude=_SAID, exclude_none=True),
        model=body.model,
        stateless=True,
        user=body.user,
        stored=body.store is True,
        store=body.store,
        max_tokens=body.max_tokens if older else body.max_completion_tokens,
        sampling=_sampling(body),
        tools=tool_use(body.tools, body.tool_choice),
        n=body.n or 1,
        stops=tuple(body.stop or ()),
        one_call=body.parallel_tool_calls is False,
        ignore_eos=bool(body.ignore_eos),
        metadata=body.metadata or {},
        names=ParamNames(**_NAMES, max_tokens="max_tokens" if older else "max_completion_tokens"),
    )


def tool_use(entries: Sequence[ToolEntry] | None, choice: ToolChoice | None) -> ToolUse:
    """What is offered, and how free the model is. Raises InvalidRequest where the two do not go together."""
    try:
        tools = tuple(_tool(entry) for entry in entries or [])
    except PromptError as error:
        raise InvalidRequest(f"{error}.", param="tools") from error
    try:
        if choice is None or choice.type == "auto":
            return ToolUse(tools=tools)
        if choice.type == "function":
            return ToolUse(tools=tools, named=choice.function.name if choice.function else None)
        return ToolUse(tools=tools, choice=choice.type)
    except PromptError as error:
        raise InvalidRequest(f"{error}.", param="tools" if choice is None else "tool_choice") from error


def _sampling(body: CompletionRequest) -> SamplingParams:
    return replace(
        sampling(body),
        logprobs=(body.top_logprobs or 0) if body.logprobs else None,
        constraint=_constraint(body.response_format),
    )


def _constraint(wanted: ResponseFormat | None) -> Constraint | None:
    if wanted is None or wanted.type == "text":
        return None
    named = wanted.json_schema
    schema = named.json_schema if named is not None and named.json_schema is not None else {"type": "object"}
    return JsonSchema(json.dumps(schema, ensure_ascii=False))


def _tool(entry: ToolEntry) -> Tool:
    function = entry.function
    return Tool(
        name=function.name,
        description=function.description,
        parameters=function.parameters,
        strict=bool(function.strict),
    )
