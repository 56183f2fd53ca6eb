"""A turn's prompt, given back before each of its answers."""

from collections.abc import Sequence

from services.answer_delta import TokenChance
from services.inference.engine import TokenLogprobs
from services.token_chances import TokenChances


class Echo:
    """The prompt's text; and the chances of its tokens, as far as they have come, if they were asked for.

    Attributes:
        text: as it was sent; of token ids, what they stand for.
        chances: of the tokens, in order. That of the first is not known.
    """

    def __init__(self, text: str, prompt_ids: Sequence[int], names: TokenChances | None) -> None:
        """`names`: of the model's tokens; None where chances were not asked for."""
        self.text = text
        self._prompt_ids = prompt_ids
        self._names = names
        self.chances: list[TokenChance] = [] if names is None else [names.chance(prompt_ids[0], None)]

    def push(self, logprobs: Sequence[TokenLogprobs]) -> None:
        """Take note of the next tokens' log-probabilities, from the second token's on."""
        if self._names is not None:
            for given in logprobs:
                self.chances.append(self._names.chance(self._prompt_ids[len(self.chances)], given))
