"""A turn's prompt, given back before each of its answers."""

from collections.abc import Sequence
from dataclasses import replace

from services.answer_delta import TokenChance
from services.inference.engine import TokenLogprobs
from services.token_chances import TokenChances


class Echo:
    """The prompt's text; and the chances of its tokens, as far as they have come, if they were asked for.

    Attributes:
        text: as it was sent; of token ids, what they stand for.
        chances: of the tokens, in order. That of the first is not known.
    """

    def __init__(self, text: str, prompt_ids: Sequence[int], names: TokenChances | None, *, spells: bool) -> None:
        """Begin without chances.

        Args:
            text: of the prompt.
            prompt_ids: its tokens.
            names: of the model's tokens; None where chances were not asked for.
            spells: whether special tokens stand in the text by their names.
        """
        self.text = text
        self._prompt_ids = prompt_ids
        self._names = names
        self._spells = spells
        self.chances: list[TokenChance] = []
        self._add(None)

    def push(self, logprobs: Sequence[TokenLogprobs]) -> None:
        """Take note of the next tokens' log-probabilities, from the second token's on."""
        for given in logprobs:
            self._add(given)

    def _add(self, given: TokenLogprobs | None) -> None:
        if self._names is None:
            return
        chance = self._names.chance(self._prompt_ids[len(self.chances)], given)
        if self._spells and not chance.bytes:
            chance = replace(chance, bytes=chance.token.encode())
        self.chances.append(chance)
