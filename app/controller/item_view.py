"""Stored items as `/v1/responses` and `/v1/conversations` show them."""

from itertools import accumulate, pairwise

from app.controller.response_items import wire_id
from database.models import Item
from schemas.response_schema import (
    InputCallOutput,
    InputItemView,
    InputMessage,
    InputText,
    ItemStatus,
    OutputCall,
    OutputItem,
    OutputMessage,
    OutputText,
)


def item_view(item: Item) -> InputItemView:
    """Anything that was said."""
    if item.type == "function_call_output":
        return InputCallOutput(id=wire_id(item.type, item.id), call_id=item.call_id or "", output=_output(item))
    if item.type == "function_call":
        return _call(item)
    part = OutputText if item.role == "assistant" else InputText
    content = [part(text=text) for text in part_texts(item) or [item.text]]
    return InputMessage(id=wire_id(item.type, item.id), role=item.role, status=_status(item), content=content)


def output_view(item: Item) -> OutputItem:
    """Something that the model has said."""
    if item.type == "function_call":
        return _call(item)
    return OutputMessage(id=wire_id(item.type, item.id), status=_status(item), content=[OutputText(text=item.text)])


def part_texts(item: Item) -> list[str] | None:
    """The parts that its text came in; None for a text that came whole."""
    if item.parts is None:
        return None
    return [item.text[start:end] for start, end in pairwise(accumulate(item.parts, initial=0))]


def _call(item: Item) -> OutputCall:
    return OutputCall(
        id=wire_id(item.type, item.id),
        status=_status(item),
        call_id=item.call_id or "",
        name=item.name or "",
        arguments=item.text,
    )


def _output(item: Item) -> str | list[InputText]:
    parts = part_texts(item)
    return item.text if parts is None else [InputText(text=text) for text in parts]


def _status(item: Item) -> ItemStatus:
    return "incomplete" if item.status == "incomplete" else "completed"
