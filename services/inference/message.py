"""What the renderers take, and what they may say."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

ROLES = frozenset({"system", "user", "assistant"})


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation.

    Attributes:
        role: `system`, `user` or `assistant`.
        content: its text.
    """

    role: str
    content: str


class PromptError(Exception):
    """The messages cannot be rendered, or a model's prompt format cannot be used; the message says why."""


def check_roles(messages: Sequence[Message]) -> None:
    """Raise PromptError for a role that there is not: roles are written into prompts as they are."""
    for message in messages:
        if message.role not in ROLES:
            raise PromptError(f"There is no role {message.role!r}")


class PromptRenderer(Protocol):
    """Turns a conversation into the token ids a model answers to.

    Attributes:
        strips_first_line: whether an answer begins with a line that is not part of its text.
    """

    strips_first_line: bool

    def render(self, messages: Sequence[Message]) -> list[int]:
        """The prompt's ids, up to where the assistant's answer begins. No message's text becomes a special token.

        Raises PromptError for messages that the model's format has no place for.
        """
        ...
