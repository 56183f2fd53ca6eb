"""What the renderers take, and what they may say."""

from collections.abc import Sequence

from msgspec import Struct

ROLES = frozenset({"system", "user", "assistant", "tool"})


class PromptError(Exception):
    """The messages cannot be rendered, or a model's prompt format cannot be used; the message says why."""


class ToolCall(Struct, frozen=True):
    """A call that a model has asked for.

    Attributes:
        name: the tool's.
        arguments: a JSON object, as text.
    """

    name: str
    arguments: str


class Message(Struct, frozen=True):
    """One message of a conversation.

    Attributes:
        role: `system`, `user`, `assistant`, or `tool` for what a called tool has returned.
        content: its text.
        tool_calls: what the assistant asked for, after the text.
    """

    role: str
    content: str
    tool_calls: tuple[ToolCall, ...] = ()


def check_messages(messages: Sequence[Message]) -> None:
    """Raise PromptError for a role that there is not (prompts have them as they are), or for calls of another's."""
    for message in messages:
        if message.role not in ROLES:
            raise PromptError(f"There is no role {message.role!r}")
        if message.tool_calls and message.role != "assistant":
            raise PromptError(f"Only the assistant calls tools, and this message's role is {message.role!r}")
