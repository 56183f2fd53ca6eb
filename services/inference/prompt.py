"""From messages to token ids, by the format the model was trained on."""

from collections.abc import Sequence
from pathlib import Path

from services.inference.chatglm.prompt import ChatGLM3Renderer
from services.inference.chatglm.tokenizer import ChatGLMTokenizer
from services.inference.message import Message, PromptError, PromptRenderer, check_roles
from services.inference.model_files import read_chat_template, read_object, token_text
from services.inference.template import TemplateRenderer
from services.inference.tokenizer import ByteTokenizer, Tokenizer

__all__ = ["ByteRenderer", "Message", "PromptError", "PromptRenderer", "load_prompt_renderer"]

_NAMED_TOKENS = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token")


class ByteRenderer:
    """The scripted engine's format: a role's id and the text's bytes for each message, then the assistant's id."""

    strips_first_line = False

    def __init__(self, tokenizer: ByteTokenizer) -> None:
        self._tokenizer = tokenizer

    def render(self, messages: Sequence[Message]) -> list[int]:
        """The prompt's ids. Raises PromptError for an unknown role."""
        check_roles(messages)
        special = self._tokenizer.specials
        ids = []
        for message in messages:
            ids += [special[f"<|{message.role}|>"], *self._tokenizer.encode(message.content)]
        return [*ids, special["<|assistant|>"]]


def load_prompt_renderer(directory: Path, tokenizer: Tokenizer) -> PromptRenderer:
    """The renderer for a model directory and its tokenizer.

    Raises PromptError where the model has no chat format that can be used.
    """
    if isinstance(tokenizer, ChatGLMTokenizer):
        return ChatGLM3Renderer.load(directory, tokenizer)
    template = read_chat_template(directory)
    if template is None:
        raise PromptError(f"{directory} has no chat template: it is not a model for conversations")
    settings = read_object(directory, "tokenizer_config.json")
    named = {name: text for name in _NAMED_TOKENS if (text := token_text(settings.get(name))) is not None}
    return TemplateRenderer(template, tokenizer, named)
