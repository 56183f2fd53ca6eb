"""Texts and conversations as the model's token ids, and back."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from app.common.errors import InvalidRequest
from services.chat_service import ChatService
from services.inference.message import Message, PromptError
from services.inference.tokenizer import Tokenizer
from services.inference.tool import ToolUse
from services.principal import Principal


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """Token ids, and how many of them prompt and answer together may have."""

    ids: list[int]
    names: list[str]
    context_window: int


class TokenService:
    """Reads and writes token ids as the turns do. All work is done in threads: texts may be long."""

    def __init__(self, chat: ChatService) -> None:
        self._chat = chat

    async def encode(self, principal: Principal, model: str | None, text: str) -> Tokens:
        """The ids of ordinary text, in which there are no special tokens.

        Raises NotFound for a model that the caller may not use, Unavailable without one.
        """
        self._chat.check_model(principal, model)
        codec = await self._chat.text_codec()
        return self._tokens(codec.tokenizer, await asyncio.to_thread(codec.tokenizer.encode, text))

    async def render(
        self, principal: Principal, model: str | None, messages: Sequence[Message], tools: ToolUse
    ) -> Tokens:
        """The ids of the prompt that these messages make. Raises as `encode`, and InvalidRequest for no prompt."""
        self._chat.check_model(principal, model)
        codec = await self._chat.codec()
        if tools.offered and codec.renderer.calls is None:
            raise InvalidRequest("The model has not learned to call tools.", param="tools")
        try:
            ids = await asyncio.to_thread(codec.renderer.render, messages, tools)
        except PromptError as error:
            raise InvalidRequest(str(error), param="messages") from error
        return self._tokens(codec.tokenizer, ids)

    async def decode(self, principal: Principal, model: str | None, ids: Sequence[int]) -> str:
        """The text of these ids, special tokens by their names. Raises as `encode`, and InvalidRequest for no ids."""
        self._chat.check_model(principal, model)
        codec = await self._chat.text_codec()
        if any(token >= len(codec.tokenizer.token_bytes) for token in ids):
            raise InvalidRequest("The model has no such token.", param="tokens", code="invalid_value")
        return spelled(codec.tokenizer, ids)

    def _tokens(self, tokenizer: Tokenizer, ids: list[int]) -> Tokens:
        names = [piece.decode("utf-8", "replace") for piece in _pieces(tokenizer, ids)]
        return Tokens(ids=ids, names=names, context_window=self._chat.context_window)


def spelled(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    """The text of ids, special tokens by their names; an id beyond the vocabulary stands for nothing."""
    text = b"".join(_pieces(tokenizer, ids)).decode("utf-8", "replace")
    return text.removeprefix(" ") if tokenizer.strips_leading_space else text


def _pieces(tokenizer: Tokenizer, ids: Sequence[int]) -> list[bytes]:
    specials = {token: name.encode() for name, token in tokenizer.specials.items()}
    table = tokenizer.token_bytes
    return [(table[token] if token < len(table) else b"") or specials.get(token, b"") for token in ids]
