"""Text to token ids and back, for the model that the engine serves; without torch."""

import asyncio
from pathlib import Path

from services.inference.answer import AnswerReader
from services.inference.engine import EngineLimits
from services.inference.prompt import ByteRenderer, PromptError, PromptRenderer, load_prompt_renderer
from services.inference.tokenizer import ByteTokenizer, Tokenizer, load_tokenizer
from services.inference.tool import NO_TOOLS, ToolUse


class Codec:
    """One model's tokenizer, and its prompt format if it has one.

    Attributes:
        refusal: why there is no prompt format; None if there is.
    """

    def __init__(self, tokenizer: Tokenizer, renderer: PromptRenderer | PromptError) -> None:
        """`renderer`: or why there is none; a model that only continues texts has none."""
        self.tokenizer = tokenizer
        self.refusal = renderer if isinstance(renderer, PromptError) else None
        self._renderer = renderer

    @property
    def renderer(self) -> PromptRenderer:
        """The prompt format. Raises `refusal`, if there is one."""
        if isinstance(self._renderer, PromptError):
            raise self._renderer
        return self._renderer

    def reader(self, tools: ToolUse) -> AnswerReader:
        """A reader for one answer to a prompt rendered with these tools: its text and its calls."""
        calls = self.renderer.calls if tools.offered else None
        return AnswerReader(self.tokenizer, calls, tools, strips_first_line=self.renderer.strips_first_line)

    def continuation(self) -> AnswerReader:
        """A reader for what follows a text."""
        return AnswerReader(self.tokenizer, None, NO_TOOLS, continues=True)


class Codecs:
    """The codec of whatever model the engine serves, loaded when first asked for."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._loaded: tuple[str, Codec] | None = None

    async def of(self, limits: EngineLimits) -> Codec:
        """The codec for these limits; loads in a thread. Raises TokenizerError for unusable files."""
        async with self._lock:
            if self._loaded is None or self._loaded[0] != limits.tokenizer:
                self._loaded = limits.tokenizer, await asyncio.to_thread(_load, limits.tokenizer)
            return self._loaded[1]


def _load(directory: str) -> Codec:
    if not directory:
        tokenizer = ByteTokenizer()
        return Codec(tokenizer, ByteRenderer(tokenizer))
    path = Path(directory)
    loaded = load_tokenizer(path)
    try:
        return Codec(loaded, load_prompt_renderer(path, loaded))
    except PromptError as error:
        return Codec(loaded, error)
