"""What is said, by whoever says it: the items that are stored, and that prompts are made of."""

from collections.abc import Sequence
from typing import Any, Literal

from msgspec import Struct, field

from database.identifier import new_id, part_id
from database.models import Item
from services.answer_delta import Answer

ItemType = Literal["message", "function_call", "function_call_output"]


class SaidItem(Struct, frozen=True, kw_only=True):
    """One thing said.

    Attributes:
        text: of a message; the arguments of a call, a JSON object; what it returned.
        role: `system`, `developer`, `user`, `assistant` or `tool`; of a call `assistant`, of its output `tool`.
        name: of the function, where a call or its output names one.
        call_id: what a call and its output have in common.
        parts: the lengths of the parts that the text came in; None for a text that came whole.
        status: `incomplete` for the end of an answer that was cut.
        answer: which of a turn's answers it is part of, from 0; None for what the model is told.
    """

    role: str
    text: str
    type: ItemType = "message"
    name: str | None = None
    call_id: str | None = None
    parts: tuple[int, ...] | None = None
    status: Literal["completed", "incomplete"] = "completed"
    answer: int | None = None
    id: str = field(default_factory=new_id)


def answer_item_id(turn_id: str, answer: int, number: int) -> str:
    """The id that an item of an answer will have when it is stored: the message's is number 0, its calls' follow."""
    return part_id(turn_id, f"{answer}.{number}")


def answer_items(turn_id: str, answers: Sequence[Answer], finish_reasons: Sequence[str]) -> list[SaidItem]:
    """What a turn has said.

    Args:
        turn_id: the turn's.
        answers: all of them; one that has neither text nor calls is an empty message.
        finish_reasons: of each of them; none at all where the turn was cut short.
    """
    said: list[SaidItem] = []
    for index, answer in enumerate(answers):
        is_whole = bool(finish_reasons) and finish_reasons[index] != "length"
        if answer.text or not answer.calls:
            said.append(
                SaidItem(
                    id=answer_item_id(turn_id, index, 0),
                    role="assistant",
                    text=answer.text,
                    status="completed" if is_whole or answer.calls else "incomplete",
                    answer=index,
                )
            )
        said += (
            SaidItem(
                id=answer_item_id(turn_id, index, number),
                type="function_call",
                role="assistant",
                text=delta.call.arguments,
                name=delta.call.name,
                call_id=delta.id,
                answer=index,
            )
            for number, delta in enumerate(answer.calls, 1)
        )
    return said


def said_item(row: Item) -> SaidItem:
    """What prompts are made of, of a stored item."""
    type_: Any = row.type
    return SaidItem(id=row.id, type=type_, role=row.role, text=row.text, name=row.name, call_id=row.call_id)


def item_rows(items: Sequence[SaidItem], first: int, **owner: Any) -> list[dict[str, Any]]:
    """The columns of these, with positions from `first` on; `owner`: what all of them have in common."""
    names = ("id", "type", "role", "text", "name", "call_id", "status", "answer")
    return [
        {name: getattr(item, name) for name in names}
        | {"parts": None if item.parts is None else list(item.parts), "position": position, **owner}
        for position, item in enumerate(items, first)
    ]
