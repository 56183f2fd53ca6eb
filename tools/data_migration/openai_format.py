"""OpenAI's chat JSONL, as fine-tuning takes it: `{"messages": [{"role": …, "content": …}, …]}` on each line."""

from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import msgspec

from database.models import Item, TurnText
from database.repositories.export_repository import Bundle
from tools.data_migration.jsonl_format import decoded
from tools.data_migration.lines import lines
from tools.data_migration.record import Call, Chat, Rejected, Said, Unreadable

_ROLES = {"system", "developer", "user", "assistant", "tool"}


def line(bundle: Bundle) -> bytes | None:
    """A bundle as a line; None if nothing of it was kept."""
    messages = _messages(bundle.items) if bundle.items else _asked(bundle.texts)
    return msgspec.json.encode({"messages": messages}) + b"\n" if messages else None


def _messages(items: Sequence[Item]) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    for item in items:
        if item.type == "function_call":
            call = {
                "id": item.call_id,
                "type": "function",
                "function": {"name": item.name, "arguments": item.text},
            }
            if not messages or messages[-1]["role"] != "assistant":
                messages.append({"role": "assistant", "content": None})
            messages[-1].setdefault("tool_calls", []).append(call)
        elif item.type == "function_call_output":
            messages.append({"role": "tool", "tool_call_id": item.call_id, "content": item.text})
        else:
            messages.append({"role": item.role, "content": item.text})
    return messages


def _asked(texts: Sequence[TurnText]) -> list[dict[str, Any]]:
    return [
        {"role": role, "content": content}
        for text in texts
        for role, content in (("user", text.prompt), ("assistant", text.response))
    ]


def read(file: BinaryIO) -> Iterator[Chat | Rejected]:
    """Chats, in order."""
    for number, raw in lines(file):
        if not raw.strip():
            continue
        try:
            yield Chat(number=number, identity=raw, raw=raw, messages=_messages_of(decoded(raw)))
        except Unreadable as error:
            yield Rejected(number, str(error), raw)


def _messages_of(values: Any) -> list[Said]:
    match values:
        case {"messages": [_, *_] as messages}:
            return [_said(message) for message in messages]
    raise Unreadable("it is not an object with messages")


def _said(message: Any) -> Said:
    match message:
        case {"role": str(role), "content": str() | list() | None as content} if role in _ROLES:
            calls = tuple(_call(call) for call in message.get("tool_calls") or ())
            call_id = message.get("tool_call_id")
            if (role == "tool") != isinstance(call_id, str) or (calls and role != "assistant"):
                raise Unreadable("a call or its result is in a message of the wrong role")
            return Said(role=role, text=_text(content), calls=calls, call_id=call_id)
        case {"role": "assistant", "tool_calls": list(calls)}:
            return _said({"role": "assistant", "content": None, "tool_calls": calls})
    raise Unreadable("a message has no known role, or no content")


def _text(content: Any) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    parts = [part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str)]
    if len(parts) != len(content):
        raise Unreadable("a message has parts that are not text")
    return "".join(parts)


def _call(call: Any) -> Call:
    match call:
        case {"id": str(call_id), "function": {"name": str(name), "arguments": str(arguments)}}:
            return Call(call_id, name, arguments)
    raise Unreadable("a call is not an object of id and function")
