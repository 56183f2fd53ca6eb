"""What a turn writes before its first byte (T1)."""

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct, field

from services.principal import Principal
from services.said_item import SaidItem


class TurnOpening(Struct, frozen=True, kw_only=True):
    """What is written before a turn's first byte (T1).

    Attributes:
        max_tokens: new tokens at the most; with the prompt's, what limits are charged until the turn ends.
        history: what was brought along into a new conversation.
        items: what else the model is told, kept with its answer in a conversation, or where the turn is stored.
        seen_length: the length at which the conversation was read; None begins a new conversation with `history`.
        previous_id: the stored response that it goes on from.
        labels: the caller's own.
        stored: whether the turn is there by its id afterwards.
        keeps_text: whether what is said is written, or only its numbers.
    """

    principal: Principal
    prompt: str
    history: Sequence[SaidItem]
    items: Sequence[SaidItem]
    seen_length: int | None
    user: str | None
    endpoint: str
    model: str
    parameters: dict[str, Any]
    max_tokens: int
    keeps_text: bool = True
    labels: Mapping[str, str] = field(default_factory=dict)
    stored: bool = False
    previous_id: str | None = None

    @property
    def length(self) -> int:
        """Of the conversation, before the turn has said anything."""
        return len(self.history) if self.seen_length is None else self.seen_length
