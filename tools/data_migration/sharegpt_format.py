"""ShareGPT's JSON, an array or lines: `{"conversations": [{"from": "human", "value": …}, {"from": "gpt", …}]}`."""

from collections.abc import Iterator
from typing import Any, BinaryIO

from tools.data_migration.json_array import elements, raw, without_mark
from tools.data_migration.jsonl_format import decoded
from tools.data_migration.lines import lines
from tools.data_migration.record import Chat, Rejected, Said, Unreadable

_ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "assistant": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "system": "system",
}


def read(file: BinaryIO) -> Iterator[Chat | Rejected]:
    """Chats, in order."""
    behind, is_array = without_mark(file)
    if is_array:
        for element in elements(behind):
            yield element if isinstance(element, Rejected) else _chat(*element)
        return
    for number, line in lines(behind):
        if line.strip():
            try:
                value = decoded(line)
            except Unreadable as error:
                yield Rejected(number, str(error), line)
                continue
            yield _chat(number, value)


def _chat(number: int, value: Any) -> Chat | Rejected:
    written = raw(value)
    try:
        return Chat(number=number, identity=written, raw=written, messages=_messages(value))
    except Unreadable as error:
        return Rejected(number, str(error), written)


def _messages(value: Any) -> list[Said]:
    match value:
        case {"conversations": [_, *_] as messages}:
            return [_said(message) for message in messages]
    raise Unreadable("it is not an object with conversations")


def _said(message: Any) -> Said:
    match message:
        case {"from": str(speaker), "value": str(text)}:
            if speaker not in _ROLES:
                raise Unreadable(f"nobody knows who speaks as {speaker!r}")
            return Said(role=_ROLES[speaker], text=text)
    raise Unreadable("a message is not an object of from and value")
