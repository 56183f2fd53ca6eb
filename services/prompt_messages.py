"""From items to the messages that prompts are made of."""

from collections.abc import Sequence

from services.inference.message import Message, ToolCall
from services.said_item import SaidItem


class UnmatchedCall(Exception):
    """A call without its output, or an output without its call; the message says which."""


class _Calls:
    """The calls of one message of the assistant, while their outputs come."""

    def __init__(self, content: str) -> None:
        self.content = content
        self.made: dict[str, SaidItem] = {}
        self.outputs: dict[str, SaidItem] = {}

    def call(self, item: SaidItem) -> None:
        call_id = item.call_id or ""
        if call_id in self.made:
            raise UnmatchedCall(f"Two calls have the id {call_id!r}.")
        self.made[call_id] = item

    def returned(self, item: SaidItem) -> None:
        call_id = item.call_id or ""
        if call_id not in self.made or call_id in self.outputs:
            raise UnmatchedCall(f"No call with the id {call_id!r} waits for a result.")
        if item.name not in {None, self.made[call_id].name}:
            raise UnmatchedCall(f"The call {call_id!r} was of another function.")
        self.outputs[call_id] = item

    def messages(self) -> list[Message]:
        if missing := [call_id for call_id in self.made if call_id not in self.outputs]:
            raise UnmatchedCall(f"The call {missing[0]!r} needs its result first.")
        calls = tuple(ToolCall(call.name or "", call.text) for call in self.made.values())
        # Prompts have no ids to tell results apart: they come in the order of their calls.
        results = (Message("tool", self.outputs[call_id].text) for call_id in self.made)
        return [Message("assistant", self.content, calls), *results]


def messages_of(items: Sequence[SaidItem]) -> list[Message]:
    """The same as messages: calls with the text before them, `developer` as `system`.

    Raises UnmatchedCall where calls and outputs do not belong together.
    """
    said, calls = _read(items)
    return said if calls is None else [*said, *calls.messages()]


def check_whole(items: Sequence[SaidItem]) -> None:
    """Raise UnmatchedCall where calls and outputs do not belong together; calls at the end may wait for theirs."""
    _read(items)


def _read(items: Sequence[SaidItem]) -> tuple[list[Message], _Calls | None]:
    """The messages, and the calls that these end with."""
    said: list[Message] = []
    calls: _Calls | None = None
    for item in items:
        if item.type == "function_call_output":
            if calls is None:
                raise UnmatchedCall(f"No call with the id {item.call_id!r} waits for a result.")
            calls.returned(item)
            continue
        if calls is not None and (item.type == "message" or calls.outputs):
            said += calls.messages()
            calls = None
        if item.type == "message":
            said.append(Message("system" if item.role == "developer" else item.role, item.text))
            continue
        if calls is None:
            speaks = bool(said) and said[-1].role == "assistant" and not said[-1].tool_calls
            calls = _Calls(said.pop().content if speaks else "")
        calls.call(item)
    return said, calls


def with_whole_calls(items: Sequence[SaidItem]) -> list[SaidItem]:
    """What is left where calls or outputs were erased: neither without the other, but for calls that still wait."""
    kept: list[SaidItem] = []
    # Places of the calls that wait for an output, by their ids; and whether one has come.
    waiting: dict[str, int] = {}
    answered = False
    erased: set[int] = set()
    for item in items:
        if item.type == "function_call_output":
            if waiting.pop(item.call_id or "", None) is not None:
                kept.append(item)
                answered = True
            continue
        if item.type == "message" or answered:
            erased.update(waiting.values())
            waiting, answered = {}, False
        if item.type == "function_call":
            waiting[item.call_id or ""] = len(kept)
        kept.append(item)
    return [item for at, item in enumerate(kept) if at not in erased]
