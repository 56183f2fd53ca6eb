"""Tools that a request offers to the model, and how free the model is to call them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from services.inference.message import PromptError

# Names are written into prompts as lines of their own.
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A function that the caller can run. Raises PromptError for a name that no prompt could hold.

    Attributes:
        name: letters, digits, `_`, `.` and `-`, 64 at the most.
        description: what it does, for the model.
        parameters: JSON schema of its arguments.
        strict: whether its arguments have to keep to the schema.
    """

    name: str
    description: str | None = None
    parameters: Mapping[str, Any] | None = None
    strict: bool = False

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise PromptError(f"A tool's name has letters, digits, _, . and - only, 64 at the most: {self.name!r}")

    def described(self) -> dict[str, Any]:
        """What models are told of it, in the order they know: only what is given."""
        known = {"name": self.name, "description": self.description, "parameters": self.parameters}
        return {key: value for key, value in known.items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolUse:
    """The tools of one request. Raises PromptError where the choice and the tools do not go together.

    Attributes:
        tools: all of them, with different names.
        choice: `auto` leaves it to the model, `none` forbids calls, `required` wants at least one.
        named: the one tool that has to be called.
    """

    tools: tuple[Tool, ...] = ()
    choice: Literal["auto", "none", "required"] = "auto"
    named: str | None = None

    def __post_init__(self) -> None:
        names = [tool.name for tool in self.tools]
        if len(set(names)) < len(names):
            raise PromptError("Two tools have the same name")
        if self.choice == "required" and not names:
            raise PromptError("A call is required, and there are no tools")
        if self.named is not None and self.named not in names:
            raise PromptError(f"There is no tool named {self.named!r}")

    @property
    def offered(self) -> tuple[Tool, ...]:
        """Those that the model is told of, and whose calls are recognised."""
        if self.choice == "none":
            return ()
        return tuple(tool for tool in self.tools if self.named in {None, tool.name})

    @property
    def strict(self) -> bool:
        """Whether one of those that are offered is strict."""
        return any(tool.strict for tool in self.offered)

    @property
    def forced(self) -> str | None:
        """The tool that has to be called, where nothing is left to choose."""
        if self.choice == "required" and len(self.tools) == 1:
            return self.tools[0].name
        return None if self.choice == "none" else self.named


NO_TOOLS = ToolUse()
