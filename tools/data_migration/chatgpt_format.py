"""ChatGPT's export, `conversations.json`: trees of messages, of which `current_node` ends the branch shown."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, BinaryIO

from tools.data_migration.json_array import elements, raw, without_mark
from tools.data_migration.record import Chat, Rejected, Said, Unreadable

_ROLES = {"system", "user", "assistant"}
_TEXTS = {"text", "multimodal_text"}
# What ChatGPT keeps for itself, and does not show.
_HIDDEN = {"model_editable_context", "user_editable_context", "thoughts", "reasoning_recap"}


def reader(*, all_branches: bool) -> Callable[[BinaryIO], Iterator[Chat | Rejected]]:
    """Reads chats, in order: the branch of each that was shown last, or every branch as a conversation of its own."""

    def read(file: BinaryIO) -> Iterator[Chat | Rejected]:
        behind, is_array = without_mark(file)
        if not is_array:
            yield Rejected(1, "it is not an array of conversations", b"")
            return
        for element in elements(behind):
            if isinstance(element, Rejected):
                yield element
            else:
                yield from _chats(*element, all_branches=all_branches)

    return read


def _chats(number: int, value: Any, *, all_branches: bool) -> Iterator[Chat | Rejected]:
    written = raw(value)
    try:
        mapping, current = _tree(value)
        leaves = _leaves(mapping, current) if all_branches else [current]
        chats = [_chat(number, value, mapping, leaf) for leaf in leaves]
    except Unreadable as error:
        yield Rejected(number, str(error), written)
        return
    yield from chats


def _tree(value: Any) -> tuple[dict[str, Any], str]:
    match value:
        case {"mapping": dict(mapping), "current_node": str(current)}:
            return mapping, current
    raise Unreadable("it is not an object with mapping and current_node")


def _chat(number: int, value: dict[str, Any], mapping: dict[str, Any], leaf: str) -> Chat:
    messages = [said for message in _branch(mapping, leaf) if (said := _said(message)) is not None]
    if not messages:
        raise Unreadable("nothing is said in it")
    title = value.get("title")
    name = value.get("conversation_id") or value.get("id") or ""
    return Chat(
        number=number,
        # Its own name: a later export of the same conversation has more in it.
        identity=f"{name} {leaf}".encode(),
        raw=raw(value),
        messages=messages,
        at=_time(value.get("create_time")),
        labels={"title": title[:512]} if isinstance(title, str) and title else {},
    )


def _branch(mapping: dict[str, Any], leaf: str) -> list[dict[str, Any]]:
    """The messages from the root to this node."""
    branch: list[dict[str, Any]] = []
    seen: set[str] = set()
    node_id: Any = leaf
    while node_id is not None:
        node = mapping.get(node_id) if isinstance(node_id, str) else None
        if not isinstance(node, dict) or node_id in seen:
            raise Unreadable(f"its tree is broken at {node_id!r}")
        seen.add(node_id)
        if isinstance(message := node.get("message"), dict):
            branch.append(message)
        node_id = node.get("parent")
    return branch[::-1]


def _leaves(mapping: dict[str, Any], current: str) -> list[str]:
    """The end of the branch that was shown, then of the others."""
    named = [node.get("parent") for node in mapping.values() if isinstance(node, dict)]
    parents = {parent for parent in named if isinstance(parent, str)}
    return [current, *(node_id for node_id in mapping if node_id not in parents and node_id != current)]


def _said(message: dict[str, Any]) -> Said | None:
    match message:
        case {"author": {"role": str(role)}, "content": {"content_type": str(kind)} as content}:
            if kind in _HIDDEN:
                return None
            if role not in _ROLES or kind not in _TEXTS:
                raise Unreadable(f"it has a message of {role!r} that is {kind!r}, not text")
            text = _text(content.get("parts"))
            return Said(role=role, text=text, at=_time(message.get("create_time"))) if text else None
    raise Unreadable("a message has no author or no content")


def _text(parts: Any) -> str:
    if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
        raise Unreadable("a message has parts that are not text")
    return "\n".join(parts)


def _time(seconds: Any) -> datetime | None:
    if seconds is None:
        return None
    try:
        return datetime.fromtimestamp(float(seconds), UTC)
    except (TypeError, ValueError, OverflowError, OSError) as error:
        raise Unreadable("a time is none") from error
