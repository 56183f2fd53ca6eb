"""Who holds which block of the key-value cache, and which blocks hold a prefix that can be used again."""

import hashlib
from array import array
from collections.abc import Iterable, Sequence

# The golden ratio's multiples spread starting points evenly, however many there are.
_SPREAD = 0.6180339887498949
_PROBES = 8
_EVICTED_AT_ONCE = 32


def root_key(tenant: str) -> bytes:
    """The key before a tenant's first block: what keeps the prefixes of tenants apart."""
    return hashlib.blake2b(tenant.encode(), digest_size=16).digest()


def block_key(parent: bytes, token_ids: Sequence[int]) -> bytes:
    """The key of a full block, which stands for its tokens, all before them and the tenant.

    A cryptographic hash, because a collision would show one tenant another's text.
    """
    return hashlib.blake2b(parent + array("Q", token_ids).tobytes(), digest_size=16).digest()


class BlockManager:
    """Counts the owners of each block. What nobody owns is free, and stays readable by its key until it is needed.

    Free blocks without a key are given out first, those with one by least recent use. A sequence's blocks are laid side
    by side where there is room, because attention reads one piece of memory faster than many.

    Args:
        count: blocks in all.
        size: tokens in a block.
    """

    def __init__(self, count: int, size: int) -> None:
        self.count = count
        self.size = size
        self._owners = [0] * count
        self._keys: dict[int, bytes] = {}
        self._by_key: dict[bytes, int] = {}
        # Both in order: the next one to be taken first.
        self._blank: dict[int, None] = dict.fromkeys(range(count))
        self._kept: dict[int, None] = {}
        self._starts = 0

    @property
    def free(self) -> int:
        """Blocks that nobody owns."""
        return len(self._blank) + len(self._kept)

    def blocks_for(self, tokens: int) -> int:
        """Blocks that hold so many tokens."""
        return -(-tokens // self.size)

    def owners(self, block: int) -> int:
        """How many sequences hold a block."""
        return self._owners[block]

    def find(self, keys: Iterable[bytes]) -> list[int]:
        """The blocks that hold the longest known prefix of these keys; nobody owns them through this."""
        found = []
        for key in keys:
            block = self._by_key.get(key)
            if block is None:
                break
            found.append(block)
        return found

    def share(self, blocks: Iterable[int]) -> None:
        """Become an owner of blocks that were found."""
        for block in blocks:
            if self._owners[block] == 0:
                self._kept.pop(block, None)
                self._blank.pop(block, None)
            self._owners[block] += 1

    def allocate(self, count: int, *, after: int | None = None, room: int = 0) -> list[int] | None:
        """Take blocks of one's own.

        Args:
            count: how many.
            after: the block before them, which they continue where they can.
            room: blocks that will probably follow.

        Returns:
            The blocks in order, or None when too few are free; nothing is taken then.
        """
        if count > self.free:
            return None
        taken: list[int] = []
        for left in range(count, 0, -1):
            after = self._take(after, left + room)
            taken.append(after)
        return taken

    def publish(self, block: int, key: bytes) -> None:
        """Let others find a full block by its key; a key that is already known keeps its block."""
        if key not in self._by_key and block not in self._keys:
            self._by_key[key] = block
            self._keys[block] = key

    def release(self, blocks: Sequence[int]) -> None:
        """Stop owning a sequence's blocks.

        Raises:
            ValueError: nobody owns one of them.
        """
        # The end first: a prefix is of use without what follows it, and not the other way round.
        for block in reversed(blocks):
            if self._owners[block] == 0:
                raise ValueError(f"block {block} is free already")
            self._owners[block] -= 1
            if self._owners[block] == 0:
                (self._kept if block in self._keys else self._blank)[block] = None

    def _take(self, after: int | None, wanted: int) -> int:
        if not self._blank:
            self._evict()
        block = after + 1 if after is not None else -1
        if block not in self._blank:
            block = self._start(wanted)
        del self._blank[block]
        self._owners[block] = 1
        return block

    def _evict(self) -> None:
        # Several at once, so that some of them may be neighbours; never so many that nothing is kept.
        for block in list(self._kept)[: min(_EVICTED_AT_ONCE, max(1, len(self._kept) // 8))]:
            del self._kept[block]
            del self._by_key[self._keys.pop(block)]
            self._blank[block] = None

    def _start(self, wanted: int) -> int:
        """A blank block with many blank ones behind it, by trying a few places far from each other."""
        best = next(iter(self._blank))
        longest = 0
        for _ in range(_PROBES):
            self._starts += 1
            probe = int(self._starts * _SPREAD % 1 * self.count)
            length = self._run(probe, wanted)
            if length > longest:
                best, longest = probe, length
            if length >= wanted:
                break
        return best

    def _run(self, start: int, wanted: int) -> int:
        length = 0
        while length < wanted and start + length in self._blank:
            length += 1
        return length
