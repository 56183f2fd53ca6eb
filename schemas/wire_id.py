"""Ids as OpenAI's routes show them: with a prefix, which may be left out."""

from typing import Annotated

from pydantic import AfterValidator, StringConstraints

_LENGTH = 32


def _bare(shown: str) -> str:
    return shown[-_LENGTH:]


CompletionId = Annotated[str, StringConstraints(pattern=r"^(chatcmpl-)?[0-9a-f]{32}$"), AfterValidator(_bare)]
ConversationId = Annotated[str, StringConstraints(pattern=r"^(conv_)?[0-9a-f]{32}$"), AfterValidator(_bare)]
ItemId = Annotated[str, StringConstraints(pattern=r"^((msg|fc|fco)_)?[0-9a-f]{32}$"), AfterValidator(_bare)]
ResponseId = Annotated[str, StringConstraints(pattern=r"^(resp_)?[0-9a-f]{32}$"), AfterValidator(_bare)]
