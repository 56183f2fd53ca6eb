"""The log that the original wrapper printed: `[2024-07-01 00:06:25] ", prompt:"hello", response:"'Hi there'"`.

The prompt stands there as it came, with quotes, brackets and newlines; the response is a Python literal. So a prompt
can look like the end of its entry, or like whole entries. What can be read in more than one way is reported, and so is
where times go back, by which a forged entry may give itself away. A forged entry whose time fits looks like a real one:
nothing in the log tells them apart.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import BinaryIO

from tools.data_migration.lines import lines, text_of
from tools.data_migration.record import Chat, Rejected, Said, Unreadable

_START = re.compile(r'\[(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)\] ", prompt:"')
_MIDDLE = '", response:"'
# What uvicorn prints between entries.
_OTHER_OUTPUT = re.compile(r"(INFO|WARNING|ERROR): ")
# As repr writes it: on one line, and without a prefix.
_STRING = re.compile(r"""'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*\"""")


@dataclass(slots=True)
class _Block:
    """The lines from one beginning of an entry to the next."""

    number: int
    raw: list[bytes]

    def entry(self) -> tuple[str, str, str]:
        """Time, prompt and response. Raises Unreadable."""
        text = "\n".join(text_of(line) for line in self.raw)
        start = _START.match(text)
        if start is None:
            raise Unreadable("it is not an entry of the log")
        ends = [found.start() for found in re.finditer(re.escape(_MIDDLE), text)]
        if not ends:
            raise Unreadable("it has no end")
        if len(ends) > 1:
            raise Unreadable("its prompt can be read in more than one way")
        (place,) = ends
        return start[1], text[start.end() : place], _response(text[place + len(_MIDDLE) :])


def read(file: BinaryIO, zone: tzinfo | None) -> Iterator[Chat | Rejected]:
    """Chats of one question and one answer each, in order; `zone`: of the log's times, None for the machine's."""
    waiting: Chat | Rejected | None = None
    latest: datetime | None = None
    for block in _blocks(file):
        chat = _chat(block, zone)
        if isinstance(chat, Chat):
            at = _at(chat)
            if latest is not None and at < latest:
                # Either is older than it says, or the other younger.
                waiting, chat = waiting and _out_of_order(waiting), _out_of_order(chat)
            latest = at if latest is None else max(at, latest)
        if waiting is not None:
            yield waiting
        waiting = chat
    if waiting is not None:
        yield waiting


def _out_of_order(one: Chat | Rejected) -> Chat | Rejected:
    if isinstance(one, Rejected):
        return one
    return Rejected(one.number, "times go back here: this or its neighbour may be part of a prompt", one.raw)


def _blocks(file: BinaryIO) -> Iterator[_Block]:
    block: _Block | None = None
    for number, raw in lines(file):
        start = _START.match(raw.decode(errors="replace"))
        if start is not None and block is not None:
            yield block
            block = None
        if block is not None:
            block.raw.append(raw)
        elif start is not None or not _is_other_output(raw):
            block = _Block(number, [raw])
    if block is not None:
        yield block


def _chat(block: _Block, zone: tzinfo | None) -> Chat | Rejected:
    while len(block.raw) > 1 and _is_other_output(block.raw[-1]):
        block.raw.pop()
    raw = b"\n".join(block.raw)
    try:
        time, prompt, response = block.entry()
        at = _time(time, zone)
    except Unreadable as error:
        return Rejected(block.number, str(error), raw)
    messages = [Said(role="user", text=prompt, at=at), Said(role="assistant", text=response, at=at)]
    return Chat(number=block.number, identity=raw, raw=raw, messages=messages, at=at)


def _is_other_output(raw: bytes) -> bool:
    return not raw.strip() or _OTHER_OUTPUT.match(raw.decode(errors="replace")) is not None


def _response(rest: str) -> str:
    """The Python string up to the closing quote at the end. Raises Unreadable for anything else."""
    if rest.endswith('"') and _STRING.fullmatch(rest, endpos=len(rest) - 1):
        try:
            return str(ast.literal_eval(rest[:-1]))
        except (ValueError, SyntaxError, MemoryError) as error:
            raise Unreadable("its response is not a Python string") from error
    raise Unreadable("its response is not a Python string")


def _time(text: str, zone: tzinfo | None) -> datetime:
    try:
        at = datetime.fromisoformat(text)
        # The first and the last day of all have hours that are none in UTC.
        return (at if zone is None else at.replace(tzinfo=zone)).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise Unreadable("its time is none") from error


def _at(chat: Chat) -> datetime:
    assert chat.at is not None  # noqa: S101 - every entry has a time
    return chat.at
