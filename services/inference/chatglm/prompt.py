"""ChatGLM3's prompt, made of ids message by message: no text can become a role token."""

from collections.abc import Sequence
from pathlib import Path

from services.inference.chatglm.tokenizer import ChatGLMTokenizer
from services.inference.message import Message, PromptError, check_roles
from services.inference.model_files import read_object


class ChatGLM3Renderer:
    """What the model's own `build_chat_input` makes, without its tools.

    `[gMASK] sop`, then for each message its role, a line of metadata and its text, the last two encoded apart. An
    answer begins with such a line: empty, or a tool's name.
    """

    strips_first_line = True

    def __init__(self, tokenizer: ChatGLMTokenizer) -> None:
        self._tokenizer = tokenizer
        self._no_metadata = tokenizer.encode("\n")

    @classmethod
    def load(cls, directory: Path, tokenizer: ChatGLMTokenizer) -> "ChatGLM3Renderer":
        """The renderer for a ChatGLM3 directory. Raises PromptError for ChatGLM2 and its relatives."""
        if _is_second_generation(directory):
            raise PromptError(
                f"{directory} is ChatGLM2 or CodeGeeX2, whose prompt ([Round 1] 问：…) is not supported yet;"
                " use zai-org/chatglm3-6b"
            )
        return cls(tokenizer)

    def render(self, messages: Sequence[Message]) -> list[int]:
        """The prompt's ids. Raises PromptError for an unknown role."""
        check_roles(messages)
        special = self._tokenizer.specials
        ids = [special["[gMASK]"], special["sop"]]
        for message in messages:
            ids += [special[f"<|{message.role}|>"], *self._no_metadata, *self._tokenizer.encode(message.content)]
        return [*ids, special["<|assistant|>"]]


def _is_second_generation(directory: Path) -> bool:
    """By what tells the generations apart: their architecture and vocabulary file are the same."""
    code = directory / "tokenization_chatglm.py"
    if code.is_file():  # read as text: only ChatGLM3's has roles
        return "<|user|>" not in code.read_text(encoding="utf-8", errors="replace")
    names = (
        read_object(directory, "config.json").get("_name_or_path"),
        read_object(directory, "tokenizer_config.json").get("name_or_path"),
    )
    return any(generation in str(name) for name in names for generation in ("chatglm2", "codegeex2"))
