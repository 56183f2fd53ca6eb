"""From the items of `/v1/responses` to those that are stored, and that prompts are made of."""

from collections.abc import Iterable, Mapping, Sequence

from msgspec.structs import replace

from app.common.errors import NotFound
from database.identifier import new_id
from schemas.response_item_schema import FunctionCallItem, FunctionOutputItem, InputItem, ItemReference
from services.said_item import SaidItem

_PREFIXES = {"message": "msg", "function_call": "fc", "function_call_output": "fco"}


def wire_id(kind: str, identifier: str) -> str:
    """The id of an item of this type, as clients see it."""
    return f"{_PREFIXES[kind]}_{identifier}"


def row_id(identifier: str) -> str:
    """The same as rows have it; whatever is no id of an item is none of theirs either."""
    return identifier.rpartition("_")[2]


def references(items: Iterable[InputItem]) -> list[str]:
    """The rows that these items refer to."""
    return [row_id(item.id) for item in items if isinstance(item, ItemReference)]


def said_items(items: Sequence[InputItem], known: Mapping[str, SaidItem]) -> list[SaidItem]:
    """The same, with what was found for the references. Raises NotFound for one that is not among it."""
    said = []
    for at, item in enumerate(items):
        if isinstance(item, ItemReference):
            if (found := known.get(row_id(item.id))) is None:
                raise NotFound("There is no such item.", param=f"input.{at}", code="item_not_found")
            # Said again: it is another item, of another turn.
            said.append(replace(found, id=new_id(), answer=None))
        else:
            said.append(_said(item))
    return said


def _said(item: InputItem) -> SaidItem:
    match item:
        case FunctionCallItem():
            return SaidItem(type=item.type, role="assistant", text=item.arguments, name=item.name, call_id=item.call_id)
        case FunctionOutputItem():
            text, parts = item.output.text, item.output.parts
            return SaidItem(type=item.type, role="tool", text=text, parts=parts, call_id=item.call_id)
        case ItemReference():
            raise AssertionError("references are resolved before")
    return SaidItem(role=item.role, text=item.content.text, parts=item.content.parts)
