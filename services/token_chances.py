"""From the engine's log-probabilities to those that belong to a piece of text."""

from collections import deque

from services.answer_delta import TokenChance
from services.inference.engine import End, TokenLogprobs
from services.inference.tokenizer import Tokenizer


class TokenChances:
    """Holds the chances of one answer's tokens until the text that they wrote is released."""

    def __init__(self, tokenizer: Tokenizer, *, shows_stop: bool = False) -> None:
        """`shows_stop`: whether the token that ends the answer has a chance, although it writes nothing."""
        self._shows_stop = shows_stop
        self._bytes = tokenizer.token_bytes
        self._specials = {token: name for name, token in tokenizer.specials.items()}
        self._held: deque[TokenChance] = deque()
        # Bytes of text, and of the tokens whose chances were released.
        self._written = self._released = 0

    def push(self, token_ids: list[int], logprobs: list[TokenLogprobs]) -> None:
        """Take note of tokens, one entry each."""
        self._held += map(self.chance, token_ids, logprobs)

    def push_stop(self, end: End) -> None:
        """Take note of the token that ended the answer, where such tokens are shown."""
        if self._shows_stop and end.stop_id is not None and end.stop_logprobs is not None:
            self.push([end.stop_id], [end.stop_logprobs])

    def release(self, text: str) -> tuple[TokenChance, ...]:
        """The chances of the tokens in which this text, which follows all that was released before, is written."""
        self._written += len(text.encode())
        found = []
        while self._held and self._released < self._written:
            found.append(self._held.popleft())
            self._released += len(found[-1].bytes)
        return tuple(found)

    def rest(self) -> tuple[TokenChance, ...]:
        """Those of tokens that wrote no text."""
        found = tuple(self._held)
        self._held.clear()
        self._released = self._written
        return found

    def chance(self, token: int, given: TokenLogprobs | None) -> TokenChance:
        """That of a token; None for one of which nothing is known."""
        if given is None:
            return self._named(token, None)
        return self._named(
            token, given.logprob, tuple(self._named(other, logprob) for other, logprob in given.alternatives)
        )

    def _named(self, token: int, logprob: float | None, alternatives: tuple[TokenChance, ...] = ()) -> TokenChance:
        piece = self._bytes[token] if token < len(self._bytes) else b""
        name = piece.decode("utf-8", "replace") or self._specials.get(token, "")
        return TokenChance(name, piece, logprob, alternatives)
