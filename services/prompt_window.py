"""What of a conversation fits into the model's context window."""

from bisect import bisect_left
from collections.abc import Sequence

from msgspec import Struct

from app.common.errors import ContextLengthExceeded, InvalidRequest
from services.chat_request import ParamNames
from services.inference.codec import Codec
from services.inference.prompt import Message, PromptError
from services.inference.tool import NO_TOOLS, ToolUse


class FittedPrompt(Struct, frozen=True, kw_only=True):
    """Token ids of the prompt, the room for the answer, and how many of the oldest turns had to go."""

    ids: list[int]
    max_tokens: int
    dropped_turns: int


class PromptWindow:
    """Fits prompts of one model.

    `default_max_tokens` is what a request that names none may generate, if the window leaves so much. `tools` are what
    the model is told of; `names` are what the caller calls the parameters.
    """

    def __init__(
        self,
        codec: Codec,
        window: int,
        default_max_tokens: int,
        *,
        tools: ToolUse = NO_TOOLS,
        names: ParamNames = ParamNames(),  # noqa: B008 - frozen
    ) -> None:
        self._codec = codec
        self._window = window
        self._default = default_max_tokens
        self._tools = tools
        self._names = names

    def fit(self, messages: Sequence[Message], max_tokens: int | None) -> FittedPrompt:
        """All of the messages. Raises ContextLengthExceeded if they do not fit with `max_tokens` new ones."""
        ids = self.render(messages)
        return self._fitted(ids, max_tokens, 0)

    def fit_newest(self, messages: Sequence[Message], max_tokens: int | None) -> FittedPrompt:
        """As many of the newest turns as fit; system messages at the beginning, and the last message, always stay.

        Raises ContextLengthExceeded if those alone do not fit.
        """
        leading = next((at for at, message in enumerate(messages) if message.role != "system"), len(messages))
        starts = [at for at in range(leading, len(messages)) if at == leading or messages[at].role == "user"]
        reserve = max_tokens if max_tokens is not None else min(self._default, self._window // 2)

        def without(dropped: int) -> list[int]:
            return self.render([*messages[:leading], *messages[starts[dropped] :]])

        # Every message costs a token at least, so that what is further back can never fit.
        candidates = range(max(0, len(starts) - self._window), len(starts))
        ids = without(candidates[0])
        if len(ids) + reserve <= self._window:
            return self._fitted(ids, max_tokens, candidates[0])
        fits = bisect_left(candidates[1:-1], True, key=lambda dropped: len(without(dropped)) + reserve <= self._window)  # noqa: FBT003
        dropped = candidates[min(1 + fits, len(candidates) - 1)]
        return self._fitted(without(dropped), max_tokens, dropped)

    def render(self, messages: Sequence[Message]) -> list[int]:
        """The prompt, however long. Raises InvalidRequest for messages that the model has no prompt for."""
        try:
            return self._codec.renderer.render(messages, self._tools)
        except PromptError as error:
            raise InvalidRequest(str(error), param=self._names.history) from error

    def _fitted(self, ids: list[int], max_tokens: int | None, dropped: int) -> FittedPrompt:
        room = self._window - len(ids)
        wanted = min(self._default, room) if max_tokens is None else max_tokens
        if room < 1 or wanted > room:
            asked = "" if max_tokens is None else f" and {self._names.max_tokens} asks for {max_tokens}"
            raise ContextLengthExceeded(
                f"The model's context window is {self._window} tokens; the prompt has {len(ids)}{asked}.",
                param=self._names.prompt if room < 1 else self._names.max_tokens,
            )
        return FittedPrompt(ids=ids, max_tokens=wanted, dropped_turns=dropped)
