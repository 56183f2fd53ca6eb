"""Calls as the GLM family writes them: a message's first line, its metadata, names the tool; the rest is its arguments.

The line of an ordinary text is empty, or missing. Some answers begin with an empty line and then name a tool all the
same.
"""

from collections.abc import Callable

from services.inference.call_format import AnswerPart, any_name
from services.inference.chatglm.tool_style import ToolStyle
from services.inference.engine import Constraint, Regex
from services.inference.message import ToolCall
from services.inference.strict_calls import strict_calls
from services.inference.tool import ToolUse

# Characters that may be held back until it is clear what a message is: more than any tool's name.
_MOST_HELD = 128


class MetadataCalls:
    """The format.

    Args:
        style: how the model writes what follows the name.
        spaced: whether every text that the model begins starts with a space.
    """

    separator: str | None = "<|assistant|>"

    def __init__(self, style: ToolStyle, *, spaced: bool) -> None:
        self._style = style
        self._spaced = spaced

    def opening(self, tools: ToolUse) -> str:
        """The line with the name of the tool that has to be called."""
        return "" if tools.forced is None else f"{tools.forced}\n"

    def constraint(self, tools: ToolUse) -> Constraint | None:
        """The arguments, or the name's line with the arguments after it."""
        if tools.forced is not None:
            return self._style.alone
        return Regex(f" ?{any_name(tools)}\n{self._style.pattern}") if tools.choice == "required" else None

    def strict_constraint(self, tools: ToolUse) -> Constraint | None:
        """The same, the arguments by their schemas; only for a style that writes them as JSON."""
        if self._style.write is not None:
            return None
        if tools.forced is not None:
            return strict_calls(tools, lambda _tool: "", "")
        return strict_calls(tools, lambda tool: f"{tool.name}\n", "") if tools.choice == "required" else None

    def parser(self, tools: ToolUse) -> "MetadataParser":
        """A parser for one message."""
        return MetadataParser(frozenset(tool.name for tool in tools.offered), self._style.read, spaced=self._spaced)


class MetadataParser:
    """Reads one message: undecided at first, then text as it comes, or a call that is held until it is whole."""

    def __init__(self, names: frozenset[str], read: Callable[[str], str | None], *, spaced: bool) -> None:
        self._names = names
        self._read = read
        self._spaced = spaced
        self._held: list[str] = []
        self._calls = self._streams = False

    def push(self, text: str) -> list[AnswerPart]:
        """The text, once this is known to be one."""
        if self._streams:
            return [text]
        self._held.append(text)
        if self._calls:
            return []
        held = "".join(self._held)
        line, newline, _ = held.lstrip().partition("\n")
        if newline and line.rstrip() in self._names:
            self._calls = True
            return []
        if not newline and len(held) <= _MOST_HELD and any(name.startswith(line.rstrip()) for name in self._names):
            return []
        self._streams = True
        return [self._text(held)]

    def end(self) -> list[AnswerPart]:
        """The call; or the text, if it is none."""
        if self._streams:
            return []
        held = "".join(self._held)
        if not self._calls:
            return [self._text(held)]
        line, _, rest = held.lstrip().partition("\n")
        arguments = self._read(rest)
        if arguments is None:
            return [f"{line}\n{self._unspaced(rest)}"]
        return [ToolCall(line.rstrip(), arguments)]

    def _text(self, held: str) -> str:
        """What the model wrote, without the line that was left empty."""
        line, newline, rest = held.partition("\n")
        return held if line.strip() or not newline else self._unspaced(rest)

    def _unspaced(self, text: str) -> str:
        return text.removeprefix(" ") if self._spaced else text
