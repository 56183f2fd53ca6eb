"""Who holds which part of the key-value cache: a row of tokens, given out in contiguous spans."""

from bisect import bisect_left


class SpanAllocator:
    """Hands out contiguous spans, first fit, and joins free neighbours again.

    Args:
        capacity: tokens in all.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._free: list[tuple[int, int]] = [(0, capacity)] if capacity > 0 else []
        self._held: dict[int, int] = {}

    @property
    def free(self) -> int:
        """Tokens that nobody holds, not necessarily in one piece."""
        return self.capacity - sum(self._held.values())

    @property
    def spans(self) -> list[tuple[int, int]]:
        """The spans held, as (start, size), by start."""
        return sorted(self._held.items())

    def allocate(self, size: int) -> int | None:
        """Take a span.

        Args:
            size: tokens, at least 1.

        Returns:
            Its first token, or None when no free piece is long enough.

        Raises:
            ValueError: `size` is below 1.
        """
        if size < 1:
            raise ValueError(f"a span has at least one token, not {size}")
        for index, (start, length) in enumerate(self._free):
            if length >= size:
                if length == size:
                    del self._free[index]
                else:
                    self._free[index] = (start + size, length - size)
                self._held[start] = size
                return start
        return None

    def release(self, start: int) -> None:
        """Give the span that begins at `start` back.

        Raises:
            KeyError: no span that is held begins there.
        """
        size = self._held.pop(start)
        index = bisect_left(self._free, (start, 0))
        if index < len(self._free) and self._free[index][0] == start + size:
            size += self._free.pop(index)[1]
        if index > 0 and sum(self._free[index - 1]) == start:
            index -= 1
            before, length = self._free.pop(index)
            start, size = before, length + size
        self._free.insert(index, (start, size))
