"""Prompts that all differ, of a wanted number of tokens."""

import secrets
from collections.abc import Callable

_COUNTER = "{counter}"
_TASK = "Write a very long story, and use these words:"
# Common words, a token each in most vocabularies.
_WORDS = ("river", "mountain", "winter", "letter", "music", "garden", "window", "silver")
_PROBE_WORDS = 64


class Prompts:
    """An endless supply of one prompt with a counter at its beginning, so that no two share more than a chat template.

    The counter has as many digits all the time, and begins at random, so that runs do not share prompts either.
    """

    def __init__(self, template: str) -> None:
        """`template`: the counter stands where `{counter}` does, else before everything."""
        self._template = template if _COUNTER in template else f"{_COUNTER}. {template}"
        self._next = 10_000_000 + secrets.randbelow(50_000_000)

    def take(self, count: int) -> list[str]:
        """The next prompts."""
        first = self._next
        self._next += count
        return [self._template.replace(_COUNTER, str(number)) for number in range(first, self._next)]


def of_tokens(wanted: int, count_tokens: Callable[[str], int]) -> Prompts:
    """Prompts of about this many tokens, the chat template's included.

    Args:
        wanted: tokens; a prompt of fewer than the bare task has is not made.
        count_tokens: asks the service what a prompt has.
    """
    few = count_tokens(_worded(0).take(1)[0])
    many = count_tokens(_worded(_PROBE_WORDS).take(1)[0])
    words = (wanted - few) * _PROBE_WORDS / max(1, many - few)
    return _worded(max(0, round(words)))


def _worded(words: int) -> Prompts:
    return Prompts(" ".join([_TASK, *(_WORDS[at % len(_WORDS)] for at in range(words))]))
