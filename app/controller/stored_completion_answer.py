"""Stored turns as the routes of `/v1/chat/completions` show them."""

from collections.abc import Sequence

from app.controller.completion_answer import completion_id, completion_usage
from app.controller.item_view import part_texts
from database.models import Item
from schemas.completion_message_schema import TextPart
from schemas.completion_schema import AssistantMessage, ChatCompletion, CompletionChoice
from schemas.stored_completion_schema import StoredMessage
from schemas.tool_schema import CalledFunction, ToolCallEntry
from services.stored_completion_service import StoredCompletion
from services.turn_end import Usage


def stored_completion(found: StoredCompletion) -> ChatCompletion:
    """The completion, as it was answered."""
    turn = found.turn
    usage = Usage(
        prompt_tokens=turn.prompt_tokens, cached_tokens=turn.cached_tokens, completion_tokens=turn.completion_tokens
    )
    return ChatCompletion(
        id=completion_id(turn.id),
        created=int(turn.created_at.timestamp()),
        model=turn.model,
        choices=[
            _choice(index, said, turn.finish_reason if index == 0 and turn.finish_reason else _reason(said))
            for index, said in enumerate(found.answers)
        ],
        usage=completion_usage(usage),
        metadata=turn.labels,
    )


def stored_messages(turn_id: str, items: Sequence[Item]) -> list[StoredMessage]:
    """What the model was told: an assistant's calls with the text before them."""
    messages: list[StoredMessage] = []
    for item in items:
        last = messages[-1] if messages else None
        if item.type == "function_call" and last is not None and last.role == "assistant":
            last.tool_calls = [*(last.tool_calls or []), _call(item)]
            continue
        calls = item.type == "function_call"
        messages.append(
            StoredMessage(
                id=f"{completion_id(turn_id)}-{len(messages)}",
                role=item.role,
                content=None if calls else item.text,
                content_parts=_parts(item),
                tool_calls=[_call(item)] if calls else None,
                tool_call_id=None if calls else item.call_id,
                name=None if calls else item.name,
            )
        )
    return messages


def _choice(index: int, said: Sequence[Item], reason: str) -> CompletionChoice:
    calls = [_call(item) for item in said if item.type == "function_call"]
    text = "".join(item.text for item in said if item.type == "message")
    message = AssistantMessage(content=None if calls and not text else text, tool_calls=calls or None)
    return CompletionChoice(index=index, message=message, logprobs=None, finish_reason=reason)


def _reason(said: Sequence[Item]) -> str:
    calls = any(item.type == "function_call" for item in said)
    return "length" if said[-1].status == "incomplete" else "tool_calls" if calls else "stop"


def _call(item: Item) -> ToolCallEntry:
    return ToolCallEntry(id=item.call_id or "", function=CalledFunction(name=item.name or "", arguments=item.text))


def _parts(item: Item) -> list[TextPart] | None:
    parts = part_texts(item)
    return None if parts is None else [TextPart(type="text", text=text) for text in parts]
