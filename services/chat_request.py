"""What a caller asks a model for, whatever the route."""

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct, field

from services.inference.engine import SamplingParams
from services.inference.tool import NO_TOOLS, ToolUse
from services.said_item import SaidItem


class ParamNames(Struct, frozen=True, kw_only=True):
    """What a route calls the parameters that may turn out to be at fault only here."""

    prompt: str = "prompt"
    history: str = "history"
    max_tokens: str = "max_tokens"
    format: str = "response_format"
    conversation: str = "conversation_id"


class ChatRequest(Struct, frozen=True, kw_only=True):
    """One turn.

    Attributes:
        items: what is said, at least one item; in a stored conversation, what follows it.
        model: by the name clients see; None for the one that is there.
        conversation_id: the stored conversation to continue, which then is not stateless.
        background: whether the turn runs on when nobody listens, and can be listened to from anywhere.
        previous_id: the stored response to go on from, by its turn; never beside a conversation.
        instructions: what the model is told first, in this turn alone.
        truncates: whether the oldest of a context that does not fit is left out.
        stateless: whether the items are kept as a conversation (False), or none outlives its turn.
        stored: whether the turn is there by its id afterwards, with all that the model was told.
        store: whether what is said is kept; None for what the tenant's policy says.
        max_tokens: new tokens of each answer at the most; None for the service's default.
        sampling: without ids that end the answer.
        n: answers to the prompt.
        stops: texts before which an answer ends.
        one_call: whether an answer ends after its first tool call.
        ignore_eos: whether the model's own end of an answer does not end it.
        parameters: what the caller set, by the names of its route, for the log.
        shown: what else a stored turn shows again, kept only with what is said.
        metadata: the caller's own labels, for the log.
    """

    items: Sequence[SaidItem]
    endpoint: str
    parameters: dict[str, Any]
    model: str | None = None
    conversation_id: str | None = None
    background: bool = False
    previous_id: str | None = None
    instructions: str | None = None
    truncates: bool = False
    stateless: bool = False
    stored: bool = False
    user: str | None = None
    store: bool | None = None
    max_tokens: int | None = None
    sampling: SamplingParams = field(default_factory=SamplingParams)
    tools: ToolUse = NO_TOOLS
    n: int = 1
    stops: tuple[str, ...] = ()
    one_call: bool = False
    ignore_eos: bool = False
    shown: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    names: ParamNames = field(default_factory=ParamNames)

    @property
    def prompt(self) -> str:
        """The last text of a user; empty if there is none."""
        return next((item.text for item in reversed(self.items) if item.role == "user"), "")
