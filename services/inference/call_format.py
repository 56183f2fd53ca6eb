"""How a model writes tool calls: what the formats share."""

import re
from typing import Protocol

from services.inference.engine import Constraint
from services.inference.message import ToolCall
from services.inference.tool import ToolUse

# Text as it comes, or a call that is whole.
AnswerPart = str | ToolCall


class CallParser(Protocol):
    """Finds the calls in one message of the model. What does not parse as a call of an offered tool stays text.

    Calls come whole: a call that turns out not to be one must come back as text, and could not once a part of it had
    been delivered.
    """

    def push(self, text: str) -> list[AnswerPart]:
        """What more text completes, possibly nothing."""
        ...

    def end(self) -> list[AnswerPart]:
        """What is left when the message has ended."""
        ...


class CallFormat(Protocol):
    """One way to write calls.

    Attributes:
        separator: the special token by which a model goes on with another message in the same answer, if it may.
    """

    separator: str | None

    def opening(self, tools: ToolUse) -> str:
        """The beginning of the answer that the prompt already has, so that a call follows; empty for a free answer."""
        ...

    def constraint(self, tools: ToolUse) -> Constraint | None:
        """What the rest of the answer has to be, so that it calls a tool where one is required; None for a free answer.

        It holds the model to the shape of a call of an offered tool, not to arguments that the tool's schema allows.
        """
        ...

    def strict_constraint(self, tools: ToolUse) -> Constraint | None:
        """The same, and to arguments that the schemas of strict tools allow; None where it cannot be held to them."""
        ...

    def parser(self, tools: ToolUse) -> CallParser:
        """A parser for one message."""
        ...


def any_name(tools: ToolUse) -> str:
    """A regular expression for the name of an offered tool."""
    return f"({'|'.join(re.escape(tool.name) for tool in tools.offered)})"
