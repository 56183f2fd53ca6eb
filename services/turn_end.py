"""What a turn says last."""

from msgspec import Struct

from app.common.errors import AppError
from database.models import TurnStatus
from services.answer_delta import AnswerDelta


class Usage(Struct, frozen=True, kw_only=True):
    """Tokens of one turn; `cached_tokens` of the prompt were not computed again."""

    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int


NOTHING = Usage(prompt_tokens=0, cached_tokens=0, completion_tokens=0)


class TurnEnd(Struct, frozen=True, kw_only=True):
    """The last event. A completed or cancelled turn is committed when a listener sees it.

    Attributes:
        status: `running` of a turn of another process which cannot be heard here any longer, and goes on.
        finish_reasons: `stop`, `length` or `tool_calls`, of each of a completed turn's answers.
        error: what the listener is told instead of an end, unless the turn was completed.
    """

    status: TurnStatus
    usage: Usage
    finish_reasons: tuple[str, ...] = ()
    error: AppError | None = None

    @property
    def finish_reason(self) -> str | None:
        """That of the first answer."""
        return self.finish_reasons[0] if self.finish_reasons else None


TurnEvent = AnswerDelta | TurnEnd
