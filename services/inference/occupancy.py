"""What an engine is doing, in numbers."""

from msgspec import Struct


class Occupancy(Struct, frozen=True, kw_only=True):
    """At one moment.

    Attributes:
        running: answers that it generates.
        waiting: requests that wait until it does.
        cache_usage: the part of the key-value cache that these hold, in [0, 1].
        prefix_queries: tokens of all prompts so far.
        prefix_hits: of these, those that were in the cache.
    """

    running: int = 0
    waiting: int = 0
    cache_usage: float = 0.0
    prefix_queries: int = 0
    prefix_hits: int = 0
