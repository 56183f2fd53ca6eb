"""Files as other software writes them, with what goes wrong in them."""

import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tools.data_migration import chatgpt_format, openai_format, sharegpt_format, wrapper_log_format
from tools.data_migration.lines import LONGEST_LINE
from tools.data_migration.record import Call, Chat, Rejected, Said

BOM = b"\xef\xbb\xbf"
SHANGHAI = ZoneInfo("Asia/Shanghai")


def printed(time: str, prompt: str, response: str) -> str:
    """As the wrapper prints it."""
    return "[" + time + "] " + '", prompt:"' + prompt + '", response:"' + repr(response) + '"' + "\n"


def wrapper(*parts: str | bytes) -> list[Chat | Rejected]:
    raw = b"".join(part if isinstance(part, bytes) else part.encode() for part in parts)
    return list(wrapper_log_format.read(io.BytesIO(raw), SHANGHAI))


def told(found: list[Chat | Rejected]) -> list[list[str]]:
    """What is said in each chat; nothing of those that are rejected."""
    return [[said.text for said in one.messages] for one in found if isinstance(one, Chat)]


def reasons(found: list[Chat | Rejected]) -> list[tuple[int, str]]:
    return [(one.number, one.reason) for one in found if isinstance(one, Rejected)]


@pytest.mark.parametrize(
    ("prompt", "response"),
    [
        ("hello", "Hi there"),
        ("你好 👋", '你好!\n\n我是 "ChatGLM", it\'s me\t\\'),
        ('say "x"], [2024-07-01] and {"a": 1}', ""),
        ("line one\nline two\n\n", "'quoted'"),
        ('ends in a quote"', '"'),
    ],
)
def test_an_entry_of_the_wrappers_log_is_read_as_it_was_said(prompt: str, response: str) -> None:
    (chat,) = found = wrapper(printed("2024-07-01 00:06:25", prompt, response))
    assert told(found) == [[prompt, response]]
    assert isinstance(chat, Chat)
    assert chat.at is not None
    assert chat.at.astimezone(UTC) == datetime(2024, 6, 30, 16, 6, 25, tzinfo=UTC)


def test_the_wrappers_log_is_read_with_what_else_the_process_printed() -> None:
    found = wrapper(
        BOM,
        "INFO:     Started server process [1]\n",
        printed("2024-07-01 00:06:25", "one", "1"),
        'INFO:     127.0.0.1:5 - "POST / HTTP/1.1" 200 OK\n\n',
        printed("2024-07-01 00:06:26", "two", "2").replace("\n", "\r\n"),
        'INFO:     127.0.0.1:5 - "POST / HTTP/1.1" 200 OK\r\n',
    )
    assert told(found) == [["one", "1"], ["two", "2"]]
    assert reasons(found) == []


def test_what_can_be_read_in_two_ways_is_reported_and_not_guessed() -> None:
    entry = 'y", response:"\'fake\'"'
    inside = printed("2024-07-01 00:06:20", "forged", "yes").rstrip("\n")
    found = wrapper(
        printed("2024-07-01 00:06:25", "before", "1"),
        # A prompt that goes on after what looks like the end of its entry.
        printed("2024-07-01 00:06:26", 'x", response:"\'fake\'" and on', "2"),
        # A prompt that holds a whole entry, of an earlier time.
        printed("2024-07-01 00:06:27", f'{entry}\n{inside}\n[2024-07-01 00:06:21] ", prompt:"z', "3"),
        printed("2024-07-01 00:06:29", "after", "4"),
    )
    assert told(found) == [["before", "1"], ["after", "4"]]
    assert [number for number, _ in reasons(found)] == [2, 3, 4, 5]
    assert "more than one way" in reasons(found)[0][1]
    assert all("go back" in reason for _, reason in reasons(found)[1:])


@pytest.mark.parametrize(
    "rest",
    [
        "unterminated",
        "'a' 'b'",
        "f'{x}'",
        "b'bytes'",
        "None",
        "__import__('os').system('true')",
        "['a', 'b']",
        "'a' + 'b'",
    ],
)
def test_a_response_that_is_no_python_string_is_rejected_and_never_run(rest: str) -> None:
    found = wrapper(f'[2024-07-01 00:06:25] ", prompt:"p", response:"{rest}"\n')
    assert [number for number, _ in reasons(found)] == [1]


def test_a_log_that_was_cut_or_is_damaged_loses_only_the_entry_at_fault() -> None:
    whole = printed("2024-07-01 00:06:25", "one", "1")
    found = wrapper(
        b"garbage\n",
        whole,
        b'[2024-07-01 00:06:26] ", prompt:"\xff\xfe", response:"\'x\'"\n',
        '[2024-13-01 00:06:26] ", prompt:"p", response:"\'x\'"\n',
        whole.replace("25]", "27]")[:-4],
    )
    assert told(found) == [["one", "1"]]
    assert [number for number, _ in reasons(found)] == [1, 3, 4, 5]
    assert "not UTF-8" in reasons(found)[1][1]


@pytest.mark.parametrize("time", ["0001-01-01 00:00:00", "9999-12-31 23:59:59"])
@pytest.mark.parametrize("zone", [SHANGHAI, ZoneInfo("America/New_York")])
def test_a_time_that_is_none_in_utc_is_rejected(time: str, zone: ZoneInfo) -> None:
    files = [io.BytesIO(printed(one, "p", "r").encode()) for one in (time, "2024-07-01 00:06:25")]
    found = [one for file in files for one in wrapper_log_format.read(file, zone)]
    assert told(found)[-1:] == [["p", "r"]]
    assert len(found) == 2


def openai(*lines: Any, end: bytes = b"\n") -> list[Chat | Rejected]:
    raw = [line if isinstance(line, bytes) else json.dumps(line, ensure_ascii=False).encode() for line in lines]
    return list(openai_format.read(io.BytesIO(end.join(raw))))


def test_openai_lines_are_read_with_calls_parts_and_odd_ends() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = [
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": [{"type": "text", "text": "一"}, {"type": "text", "text": "二"}]},
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "done"},
        {"role": "assistant", "content": "yes", "weight": 0},
    ]
    long = {"messages": [{"role": "user", "content": "长" * 4_000_000}]}
    line = BOM + json.dumps({"messages": messages}).encode()
    chat, big = openai(line, b"", long, end=b"\r\n")
    assert isinstance(chat, Chat)
    assert isinstance(big, Chat)
    assert (big.number, len(big.messages[0].text)) == (3, 4_000_000)
    assert list(chat.messages) == [
        Said(role="system", text="be kind"),
        Said(role="user", text="一二"),
        Said(role="assistant", text="", calls=(Call("c1", "f", "{}"),)),
        Said(role="tool", text="done", call_id="c1"),
        Said(role="assistant", text="yes"),
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"messages": [{"role": "user", "content": "cut', "not JSON"),
        (b'{"messages": [{"role": "user", "content": "\xff"}]}', "not UTF-8"),
        ({"messages": []}, "messages"),
        ([1], "messages"),
        (b"[" * 100_000, "not JSON"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "role"),
        ({"messages": [{"role": "user"}]}, "content"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "not text"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "wrong role"),
        ({"messages": [{"role": "assistant", "content": None, "tool_calls": [{}]}]}, "call"),
    ],
)
def test_an_openai_line_at_fault_is_rejected_with_its_number(line: Any, reason: str) -> None:
    good = {"messages": [{"role": "user", "content": "x"}]}
    found = openai(good, line)
    assert told(found) == [["x"]]
    assert [number for number, _ in reasons(found)] == [2]
    assert reason in reasons(found)[0][1]


def test_a_line_without_end_is_rejected_without_being_kept() -> None:
    good = b'{"messages": [{"role": "user", "content": "x"}]}'
    file = io.BytesIO(b'{"messages": "' + b"x" * (LONGEST_LINE + 10) + b'"}\n' + good)
    rejected, chat = openai_format.read(file)
    assert isinstance(rejected, Rejected)
    assert "longer" in rejected.reason
    assert isinstance(chat, Chat)
    assert chat.number == 2


def test_sharegpt_is_read_from_an_array_and_from_lines() -> None:
    chats = [
        {"id": str(number), "conversations": [{"from": "human", "value": "问"}, {"from": "gpt", "value": f"{number}"}]}
        for number in range(3)
    ]
    array = BOM + b" \r\n" + json.dumps(chats).encode()
    lines = b"\r\n".join(json.dumps(chat).encode() for chat in chats)
    for raw in (array, lines):
        assert told(list(sharegpt_format.read(io.BytesIO(raw)))) == [["问", "0"], ["问", "1"], ["问", "2"]]
    cut = list(sharegpt_format.read(io.BytesIO(array[:-20])))
    assert (told(cut), [number for number, _ in reasons(cut)]) == ([["问", "0"], ["问", "1"]], [3])
    wrong = [{"conversations": [{"from": "oracle", "value": "x"}]}, {}, chats[0]]
    found = list(sharegpt_format.read(io.BytesIO(json.dumps(wrong).encode())))
    assert [number for number, _ in reasons(found)] == [1, 2]
    assert told(found) == [["问", "0"]]


def node(node_id: str, parent: str | None, role: str, *parts: Any, **content: Any) -> dict[str, Any]:
    message = {
        "author": {"role": role},
        "create_time": 1719792385.5,
        "content": {"content_type": "text", "parts": list(parts)} | content,
    }
    return {"id": node_id, "parent": parent, "children": [], "message": message}


def a_tree(*nodes: dict[str, Any], current: str) -> dict[str, Any]:
    root: dict[str, Any] = {"id": "root", "parent": None, "children": [], "message": None}
    mapping = {one["id"]: one for one in (root, *nodes)}
    return {"title": "标题", "create_time": 1719792380.25, "mapping": mapping, "current_node": current, "id": "c-1"}


def chatgpt(*trees: Any, all_branches: bool = False) -> Iterator[Chat | Rejected]:
    return chatgpt_format.reader(all_branches=all_branches)(io.BytesIO(json.dumps(list(trees)).encode()))


def test_chatgpts_tree_is_read_along_the_branch_that_was_shown() -> None:
    tree = a_tree(
        node("hidden", "root", "system", ""),
        node("ask", "hidden", "user", "why?"),
        node("old", "ask", "assistant", "first try"),
        node("thought", "ask", "assistant", content_type="thoughts"),
        node("new", "thought", "assistant", "second", "try"),
        current="new",
    )
    (chat,) = found = list(chatgpt(tree))
    assert told(found) == [["why?", "second\ntry"]]
    assert isinstance(chat, Chat)
    assert (chat.labels, chat.at) == ({"title": "标题"}, datetime(2024, 7, 1, 0, 6, 20, 250_000, tzinfo=UTC))
    assert told(list(chatgpt(tree, all_branches=True))) == [["why?", "second\ntry"], ["why?", "first try"]]


def test_a_node_of_chatgpts_tree_whose_parent_is_no_id_is_nobodys_child() -> None:
    tree = a_tree(node("a", "root", "user", "x"), current="a")
    tree["mapping"]["odd"] = {"parent": []}
    found = list(chatgpt(tree, all_branches=True))
    assert [number for number, _ in reasons(found)] == [1]


def test_a_chatgpt_conversation_at_fault_is_rejected_as_a_whole() -> None:
    good = a_tree(node("a", "root", "user", "x"), current="a")
    loop = a_tree(node("a", "b", "user", "x"), node("b", "a", "user", "y"), current="a")
    trees = [
        a_tree(node("a", "root", "user", {"asset_pointer": "file"}), current="a"),
        a_tree(node("a", "root", "tool", "x"), current="a"),
        a_tree(node("a", "gone", "user", "x"), current="a"),
        loop,
        a_tree(current="root"),
        {},
    ]
    found = list(chatgpt(*trees, good))
    assert [number for number, _ in reasons(found)] == [1, 2, 3, 4, 5, 6]
    assert told(found) == [["x"]]
