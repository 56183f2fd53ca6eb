"""From items to the messages of a prompt: calls and what they returned belong together."""

import pytest

from services.inference.message import Message, ToolCall
from services.prompt_messages import UnmatchedCall, messages_of, with_whole_calls
from services.said_item import SaidItem


def said(role: str, text: str) -> SaidItem:
    return SaidItem(role=role, text=text)


def call(call_id: str, name: str = "f") -> SaidItem:
    return SaidItem(type="function_call", role="assistant", text="{}", name=name, call_id=call_id)


def output(call_id: str, text: str = "", name: str | None = None) -> SaidItem:
    return SaidItem(type="function_call_output", role="tool", text=text or call_id, name=name, call_id=call_id)


ASSISTANT = Message("assistant", "", (ToolCall("f", "{}"),))


def test_calls_belong_to_the_text_before_them_and_results_come_in_the_order_of_the_calls() -> None:
    items = [said("developer", "d"), said("user", "u"), said("assistant", "t"), call("a"), call("b", "g")]
    assert messages_of([*items, output("b"), output("a"), said("user", "v")]) == [
        Message("system", "d"),
        Message("user", "u"),
        Message("assistant", "t", (ToolCall("f", "{}"), ToolCall("g", "{}"))),
        Message("tool", "a"),
        Message("tool", "b"),
        Message("user", "v"),
    ]


def test_a_call_after_a_result_is_a_message_of_its_own() -> None:
    items = [said("user", "u"), call("a"), output("a", "1"), call("a"), output("a", "2")]
    assert messages_of(items) == [
        Message("user", "u"), ASSISTANT, Message("tool", "1"), ASSISTANT, Message("tool", "2"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("items", "reason"),
    [
        ([output("a")], "No call with the id 'a' waits"),
        ([call("a"), output("b")], "No call with the id 'b' waits"),
        ([call("a"), output("a"), output("a")], "No call with the id 'a' waits"),
        ([call("a"), call("a")], "Two calls have the id 'a'"),
        ([call("a")], "The call 'a' needs its result"),
        ([call("a"), said("user", "u")], "The call 'a' needs its result"),
        ([call("a"), call("b"), output("a"), call("c")], "The call 'b' needs its result"),
        ([call("a"), output("a", name="g")], "of another function"),
    ],
)
def test_what_does_not_belong_together_is_named(items: list[SaidItem], reason: str) -> None:
    with pytest.raises(UnmatchedCall, match=reason):
        messages_of(items)


def test_what_was_erased_leaves_neither_a_call_nor_a_result_alone() -> None:
    question, answer = said("user", "u"), said("assistant", "t")
    waiting = [call("c"), call("d"), output("c")]
    kept = [question, answer, call("a"), output("a")]
    for items, left in (
        ([output("x"), *kept, *waiting], [*kept, *waiting]),
        ([question, call("b"), answer, call("a"), output("a")], kept),
        ([question, answer, call("b"), call("a"), output("a"), question], [*kept, question]),
        (kept, kept),
    ):
        assert [(one.text, one.call_id) for one in with_whole_calls(items)] == [(one.text, one.call_id) for one in left]
