"""What `/v1/responses` refuses: a clear 400 in OpenAI's envelope that names the field, and nothing is begun."""

from typing import Any

import pytest

from tests.openai_clients import MODEL
from tests.service import Service

GOOD: dict[str, Any] = {"model": MODEL, "input": "hi"}
TOOL = {"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": False}


def said(**fields: Any) -> dict[str, Any]:
    return GOOD | {"input": [{"role": "user", "content": "hi", **fields}]}


BAD: list[tuple[str, dict[str, Any]]] = [
    ("input", {"model": MODEL}),
    ("input", GOOD | {"input": []}),
    ("input", GOOD | {"input": None}),
    ("input", GOOD | {"input": 5}),
    ("input.0", GOOD | {"input": ["hi"]}),
    ("input.0", GOOD | {"input": [{"type": "reasoning", "id": "rs_1", "summary": []}]}),
    ("input.0", GOOD | {"input": [{"type": "web_search_call", "id": "ws_1"}]}),
    ("input.0", GOOD | {"input": [{"type": 5}]}),
    ("input.0.message.role", said(role="tool")),
    ("input.0.message.name", said(name="ann")),
    ("input.0.message.content", said(content=[{"type": "input_image", "image_url": "data:"}])),
    ("input.0.message.content", said(content=[{"type": "input_file", "file_id": "file_1"}])),
    ("input.0.message.content", said(content=[{"type": "refusal", "refusal": "no"}])),
    ("input.0.message.content", said(content="a\x00b")),
    ("input.0.function_call.arguments", GOOD | {"input": [{"type": "function_call", "call_id": "c", "name": "f"}]}),
    (
        "input.0.function_call.arguments",
        GOOD | {"input": [{"type": "function_call", "call_id": "c", "name": "f", "arguments": "[1]"}]},
    ),
    ("model", {"input": "hi"}),
    ("instructions", GOOD | {"instructions": 5}),
    ("max_output_tokens", GOOD | {"max_output_tokens": 0}),
    ("max_output_tokens", GOOD | {"max_output_tokens": 9000}),
    ("input", GOOD | {"input": "a" * 9000}),
    ("temperature", GOOD | {"temperature": 3}),
    ("top_p", GOOD | {"top_p": 0}),
    ("top_logprobs", GOOD | {"top_logprobs": 2}),
    ("include.0", GOOD | {"include": ["web_search_call.results"]}),
    ("stream_options", GOOD | {"stream_options": {}}),
    ("stream_options.include_obfuscation", GOOD | {"stream": True, "stream_options": {"include_obfuscation": True}}),
    ("text.format", GOOD | {"text": {"format": {"type": "json_schema", "name": "a"}}}),
    ("text.format", GOOD | {"text": {"format": {"type": "text", "name": "a"}}}),
    ("text.format", GOOD | {"text": {"format": {"type": "json_schema", "name": "a", "schema": {"type": "nonsense"}}}}),
    ("text.format", GOOD | {"tools": [TOOL], "text": {"format": {"type": "json_object"}}}),
    ("text.verbosity", GOOD | {"text": {"verbosity": "low"}}),
    ("tools", GOOD | {"tools": [TOOL, TOOL]}),
    ("tools.0", GOOD | {"tools": [{"type": "file_search", "vector_store_ids": []}]}),
    ("tools.0.name", GOOD | {"tools": [TOOL | {"name": ""}]}),
    ("tool_choice", GOOD | {"tool_choice": "required"}),
    ("tool_choice", GOOD | {"tools": [TOOL], "tool_choice": {"type": "function"}}),
    ("tool_choice", GOOD | {"tools": [TOOL], "tool_choice": {"type": "function", "name": "g"}}),
    ("tool_choice.type", GOOD | {"tool_choice": {"type": "web_search_preview"}}),
    ("truncation", GOOD | {"truncation": "always"}),
    ("store", GOOD | {"store": "yes"}),
    ("background", GOOD | {"background": 1}),
    ("conversation.id", GOOD | {"conversation": "nonsense"}),
    ("conversation", GOOD | {"conversation": "0" * 32, "previous_response_id": "resp_1"}),
    ("previous_response_id", GOOD | {"previous_response_id": ""}),
    ("reasoning", GOOD | {"reasoning": {"effort": "low"}}),
    ("metadata", GOOD | {"metadata": {str(at): "a" for at in range(17)}}),
    ("service_tier", GOOD | {"service_tier": "flex"}),
    ("prompt", GOOD | {"prompt": {"id": "pmpt_1"}}),
    ("max_tool_calls", GOOD | {"max_tool_calls": 1}),
    ("context_management", GOOD | {"context_management": []}),
]


async def test_what_cannot_be_honoured_is_refused_by_name(sqlite_service: Service) -> None:
    for param, body in BAD:
        refused = await sqlite_service.ours.post("/v1/responses", json=body)
        assert refused.status_code == 400, (param, refused.text)
        error = refused.json()["error"]
        assert (error["type"], error["param"]) == ("invalid_request_error", param), error
    assert (await sqlite_service.ours.get("/chat/get/messages/")).json()["messages"] == []


@pytest.mark.parametrize("kind", ["web_search", "file_search", "mcp", "code_interpreter", "image_generation", "custom"])
async def test_a_tool_that_this_service_has_not_is_named(sqlite_service: Service, kind: str) -> None:
    refused = await sqlite_service.ours.post("/v1/responses", json=GOOD | {"tools": [{"type": kind}]})
    assert refused.status_code == 400
    assert repr(kind) in refused.json()["error"]["message"]


async def test_what_changes_nothing_is_accepted(sqlite_service: Service) -> None:
    body = GOOD | {
        "service_tier": "auto",
        "prompt_cache_key": "a",
        "safety_identifier": "b",
        "truncation": "disabled",
        "include": ["reasoning.encrypted_content"],
        "text": {"verbosity": "medium"},
        "background": False,
        "reasoning": None,
    }
    answer = await sqlite_service.ours.post("/v1/responses", json=body)
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert (told["service_tier"], told["safety_identifier"], told["prompt_cache_key"]) == ("default", "b", "a")
