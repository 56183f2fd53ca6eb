"""From the messages of `/v1/chat/completions` to items."""

from collections.abc import Iterable, Iterator, Sequence

from app.common.errors import InvalidRequest
from schemas.completion_message_schema import CompletionMessage
from services.inference.message import Message
from services.prompt_messages import UnmatchedCall, messages_of
from services.said_item import SaidItem


def conversation(messages: Sequence[CompletionMessage]) -> list[Message]:
    """What prompts are made of. Raises InvalidRequest where calls and results do not belong together."""
    try:
        return messages_of(said_items(messages))
    except UnmatchedCall as error:
        raise InvalidRequest(str(error), param="messages") from error


def said_items(messages: Iterable[CompletionMessage]) -> list[SaidItem]:
    """The same, item by item: an assistant's text, then its calls."""
    return [item for message in messages for item in _items(message)]


def _items(message: CompletionMessage) -> Iterator[SaidItem]:
    if message.role == "tool":
        yield SaidItem(
            type="function_call_output",
            role="tool",
            text=message.content.text if message.content else "",
            parts=message.content.parts if message.content else None,
            name=message.name,
            call_id=message.tool_call_id,
        )
        return
    if message.content is not None:
        yield SaidItem(role=message.role, text=message.content.text, parts=message.content.parts)
    for call in message.tool_calls or []:
        yield SaidItem(
            type="function_call",
            role="assistant",
            text=call.function.arguments,
            name=call.function.name,
            call_id=call.id,
        )
