"""Every parser that takes outside bytes, as a function of bytes: it raises what its callers expect, or nothing."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from io import BytesIO
from typing import Any, TypeVar
from urllib.parse import parse_qsl
from zoneinfo import ZoneInfo

from pydantic import BaseModel

from app.common.errors import InvalidRequest, Unauthenticated
from app.controller.chat_stream_controller import _seen
from app.controller.idempotent_route import _fingerprint, _said
from database.models import Tenant
from schemas.chat_schema import NewMessage, StreamQuery
from schemas.completion_request_schema import CompletionRequest
from schemas.conversation_schema import NewConversation
from schemas.history_schema import HistoryQuery
from schemas.metadata import MetadataFilter
from schemas.page_schema import PageQuery
from schemas.response_request_schema import ResponseRequest
from schemas.text_completion_schema import TextCompletionRequest
from services.inference.call_format import CallParser
from services.inference.chatglm import python_call
from services.inference.chatglm.metadata_calls import MetadataParser
from services.inference.chatglm.tool_style import read_json
from services.inference.constraint import ConstraintError, check
from services.inference.detokenizer import Detokenizer
from services.inference.engine import JsonSchema, Regex
from services.inference.json_calls import TaggedParser, WholeParser
from services.inference.message import ToolCall
from services.inference.stop_strings import StopStrings
from services.inference.strict_arguments import StrictArguments
from services.inference.template_dialect import dialect_of
from services.inference.tokenizer import ByteTokenizer
from services.inference.tool import Tool
from services.inference.wire import WireError, receive_from_client, receive_from_server
from services.key_token import Peppers, display_prefix, make_key, may_exist
from services.stream_access import StreamAccess
from tests.test_faults.hostile_http import http
from tools.data_migration import import_command
from tools.data_migration.import_command import Format

Value = TypeVar("Value")
ID = "0" * 32
SECRET = b"a secret of the tests, long enough"
NAMES = frozenset({"weather", "search"})
AT = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Parser:
    """What to feed, and what good inputs look like, from which others are made."""

    feed: Callable[[bytes], None]
    seeds: tuple[bytes, ...]


def text(data: bytes) -> str:
    """As JSON may bring it: with halves of surrogate pairs."""
    return data.decode("utf-8", "surrogateescape")


def body(data: bytes, *, schema: type[BaseModel]) -> None:
    try:
        schema.model_validate(json.loads(data))
    except (ValueError, RecursionError):
        return


def query(data: bytes) -> None:
    pairs = dict(parse_qsl(text(data), keep_blank_values=True, max_num_fields=1000))
    for schema in (HistoryQuery, StreamQuery, PageQuery, MetadataFilter):
        try:
            schema.model_validate(pairs)
        except ValueError:
            continue


def api_key(data: bytes) -> None:
    key = data.decode("latin-1")
    if may_exist(key):
        assert len(Peppers(SECRET).hashes(key)[0]) == 64
        assert len(display_prefix(key)) <= len(key) / 2


def stream_token(data: bytes) -> None:
    # Nothing that is not signed comes as far as the database, which there is none of.
    asked = StreamAccess(None, SECRET).tenant(text(data), ID)  # type: ignore[arg-type]
    try:
        asked.send(None)
    except Unauthenticated:
        return
    raise AssertionError("a token that nobody has made was taken")


def event_id(data: bytes) -> None:
    try:
        _seen(data.decode("latin-1"))
    except InvalidRequest:
        return


def fingerprint(data: bytes) -> None:
    assert _fingerprint("/", _said(data), data) == _fingerprint("/", _said(data), data)


def calls(data: bytes) -> None:
    """However an answer is cut, it comes back whole: as the same calls, and the same text."""
    said = data.decode("utf-8", "replace")
    makers: tuple[Callable[[], CallParser], ...] = (
        partial(TaggedParser, NAMES),
        partial(WholeParser, NAMES),
        partial(MetadataParser, NAMES, python_call.read, spaced=True),
        partial(MetadataParser, NAMES, read_json, spaced=False),
    )
    for maker in makers:
        whole, cut = parsed(maker(), [said]), parsed(maker(), list(said))
        assert [part for part in whole if isinstance(part, ToolCall)] == [
            part for part in cut if isinstance(part, ToolCall)
        ]
        for part in whole:
            if isinstance(part, ToolCall):
                assert isinstance(json.loads(part.arguments), dict)


def parsed(parser: CallParser, pieces: list[str]) -> list[str | ToolCall]:
    return [part for piece in pieces for part in parser.push(piece)] + parser.end()


def arguments(data: bytes) -> None:
    _strict.allow(ToolCall("weather", text(data)))


_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 9},
        "days": {"type": "array", "items": {"anyOf": [{"type": "integer"}, {"$ref": "#/$defs/day"}]}},
    },
    "required": ["city"],
    "$defs": {"day": {"type": "object", "properties": {"of": {"$ref": "#/$defs/day"}}}},
}
_strict = StrictArguments([Tool(name="weather", parameters=_SCHEMA, strict=True)])


def constraint(data: bytes) -> None:
    for one in (JsonSchema(data.decode("utf-8", "replace")), Regex(data.decode("utf-8", "replace"))):
        try:
            check(one)
        except ConstraintError:
            continue


def answer_bytes(data: bytes) -> None:
    """Tokens become the same text however they come, and the same one is cut at a stop string."""
    ids, stops = list(data), ["stop", "\n\n", "好"]
    whole, cut = Detokenizer(ByteTokenizer()), Detokenizer(ByteTokenizer())
    together = whole.push(ids) + whole.flush()
    assert "".join(cut.push([one]) for one in ids) + cut.flush() == together
    first, second = StopStrings(stops), StopStrings(stops)
    stopped = first.push(together)
    stopped += "" if first.found else first.flush()
    said = ""
    for character in together:
        said += second.push(character)
        if second.found:
            break
    assert said + ("" if second.found else second.flush()) == stopped


def template(data: bytes) -> None:
    dialect_of(data.decode("utf-8", "replace"), ByteTokenizer())


def wire(data: bytes) -> None:
    for receive in (receive_from_client, receive_from_server):
        received = _first(receive, len(data).to_bytes(4) + data)
        try:
            received.send(None)
        except (StopIteration, WireError):
            continue


def _first(receive: Callable[[asyncio.StreamReader], Any], data: bytes) -> Any:
    reader = asyncio.StreamReader(loop=_loop)
    reader.feed_data(data)
    reader.feed_eof()
    return receive(reader)


_loop = asyncio.new_event_loop()


def imported(data: bytes, *, form: Format) -> None:
    tenant = Tenant(id=ID, name="ours", created_at=AT)
    # Every option, one way and the other.
    for all_branches in (False, True):
        zone = ZoneInfo("Asia/Shanghai") if all_branches else None
        read = import_command._reader(form, tenant, zone, AT, all_branches=all_branches, new_ids=all_branches)
        for _ in read(BytesIO(data)):
            pass


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


_ASKED = [{"role": "user", "content": "hi"}]
_TOOL = {"type": "function", "function": {"name": "weather", "parameters": _SCHEMA, "strict": True}}
_NODE = {"message": {"author": {"role": "user"}, "content": {"content_type": "text", "parts": ["hi"]}}, "parent": None}
_CALL = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
_HEAD = b"POST / HTTP/1.1\r\nHost: here\r\n"
PARSERS = {
    "HTTP": Parser(
        http,
        (
            _HEAD + b"Content-Length: 2\r\n\r\nhi" + _HEAD + b"\r\n",
            _HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nx: y\r\n\r\n",
            _HEAD + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n\r\n",
        ),
    ),
    "new message": Parser(
        partial(body, schema=NewMessage),
        (_json({"prompt": "hi", "max_tokens": 5, "history": _ASKED, "stream": True, "user": "me", "top_p": 0.5}),),
    ),
    "completion": Parser(
        partial(body, schema=CompletionRequest),
        (
            _json({"model": "m", "messages": _ASKED, "tools": [_TOOL], "tool_choice": "auto", "stop": ["a"], "n": 2}),
            _json({"model": "m", "messages": _ASKED, "metadata": {"a": "b"}, "logit_bias": {"5": 1.5}, "store": True}),
            _json({"model": "m", "messages": [*_ASKED, {"role": "assistant", "tool_calls": [_CALL]}]}),
        ),
    ),
    "response": Parser(
        partial(body, schema=ResponseRequest),
        (
            _json({"model": "m", "input": "hi", "instructions": "be short", "metadata": {"a": "b"}}),
            _json({"model": "m", "input": [{"type": "message", "role": "user", "content": "hi"}], "tools": []}),
        ),
    ),
    "text completion": Parser(
        partial(body, schema=TextCompletionRequest), (_json({"model": "m", "prompt": [[1, 2], [3]], "echo": True}),)
    ),
    "conversation": Parser(partial(body, schema=NewConversation), (_json({"metadata": {"a": "b"}, "items": _ASKED}),)),
    "query": Parser(query, (b"after=" + ID.encode() + b"&limit=5&since=2026-01-01&metadata[a]=b&token=x&offset=3",)),
    "api key": Parser(api_key, (make_key().encode(), b"a bootstrap key of somebody's, long enough")),
    "stream token": Parser(stream_token, (b"QUJD" * 23, b"=")),
    "Last-Event-ID": Parser(event_id, (b"12", b"12.end")),
    "fingerprint": Parser(fingerprint, (_json({"prompt": "hi", "store": False, "n": 1.5}),)),
    "tool calls": Parser(
        calls,
        (
            b'<tool_call>\n{"name": "weather", "arguments": {"city": "x"}}\n</tool_call>',
            b'{"name": "search", "parameters": {"days": [1, null]}}',
            b"weather\n ```python\ntool_call(city='x', days=[1, -2.5, {'a': True}], **{'b': None})\n```",
            b'search\n{"city": "x"}',
        ),
    ),
    "strict arguments": Parser(arguments, (b'{"city": "x", "days": [1, {"of": {}}]}',)),
    "constraint": Parser(constraint, (_json(_SCHEMA), b"(a|b)*c{2,5}[^d]\\d+")),
    "answer": Parser(answer_bytes, ("hello 👩‍💻 好\n\nstop".encode(), b"\xf0\x9f\xff")),
    "template": Parser(template, (b"{% for message in messages %}{{ message['content'] }}<tool_call>{% endfor %}",)),
    "wire": Parser(wire, (b"\x82\xa4type\xa5Start\xa2id\xa1x", b"\x82\xa4type\xa4Step\xa6events\x90")),
    "import jsonl": Parser(
        partial(imported, form=Format.JSONL),
        (_json({"conversation": None, "turns": [], "texts": [], "items": [], "keys": {}}),),
    ),
    "import openai": Parser(
        partial(imported, form=Format.OPENAI), (_json({"messages": [*_ASKED, {"role": "assistant", "content": "x"}]}),)
    ),
    "import chatgpt": Parser(
        partial(imported, form=Format.CHATGPT),
        (_json([{"mapping": {"a": _NODE, "b": _NODE | {"parent": "a"}}, "current_node": "b", "create_time": 1.5}]),),
    ),
    "import sharegpt": Parser(
        partial(imported, form=Format.SHAREGPT),
        (_json([{"id": "x", "conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}]),),
    ),
    "import wrapper log": Parser(
        partial(imported, form=Format.WRAPPER_LOG),
        (b'[2024-07-01 00:06:25] ", prompt:"hello", response:"\'Hi there\'"\nINFO: x\n',),
    ),
}
