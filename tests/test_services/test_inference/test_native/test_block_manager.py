from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from services.inference.native.block_manager import BlockManager, block_key, root_key

SIZE = 2


def keys_of(tenant: str, tokens: list[int]) -> list[bytes]:
    keys = [root_key(tenant)]
    for start in range(0, len(tokens) - SIZE + 1, SIZE):
        keys.append(block_key(keys[-1], tokens[start : start + SIZE]))
    return keys[1:]


class Blocks(RuleBasedStateMachine):
    """Sequences that come, share, grow, and go in any order."""

    @initialize(count=st.integers(1, 24))
    def begin(self, count: int) -> None:
        self.manager = BlockManager(count, SIZE)
        self.held: list[list[int]] = []

    @rule(tenant=st.sampled_from("ab"), tokens=st.lists(st.integers(0, 1), min_size=1, max_size=16))
    def arrive(self, tenant: str, tokens: list[int]) -> None:
        keys = keys_of(tenant, tokens)
        shared = self.manager.find(keys)
        self.manager.share(shared)
        wanted = self.manager.blocks_for(len(tokens)) - len(shared)
        free = self.manager.free
        fresh = self.manager.allocate(wanted, after=shared[-1] if shared else None)
        assert (fresh is None) == (wanted > free)
        if fresh is None:
            self.manager.release(shared)
            return
        blocks = shared + fresh
        assert len(set(blocks)) == len(blocks)
        for block, key in zip(blocks, keys, strict=False):
            self.manager.publish(block, key)
        self.held.append(blocks)

    @rule(which=st.integers(0, 100))
    def grow(self, which: int) -> None:
        if self.held:
            blocks = self.held[which % len(self.held)]
            blocks += self.manager.allocate(1, after=blocks[-1] if blocks else None) or []

    @rule(which=st.integers(0, 100))
    def leave(self, which: int) -> None:
        if self.held:
            self.manager.release(self.held.pop(which % len(self.held)))

    @invariant()
    def every_owner_is_counted_and_nothing_leaks(self) -> None:
        owners = Counter(block for blocks in self.held for block in blocks)
        assert [self.manager.owners(block) for block in range(self.manager.count)] == [
            owners[block] for block in range(self.manager.count)
        ]
        assert self.manager.free == self.manager.count - len(owners)

    def teardown(self) -> None:
        for blocks in getattr(self, "held", []):
            self.manager.release(blocks)
        if hasattr(self, "manager"):
            taken = self.manager.allocate(self.manager.count)
            assert taken is not None
            assert sorted(taken) == list(range(self.manager.count))


TestBlocks = Blocks.TestCase
TestBlocks.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)


@given(tokens=st.lists(st.integers(0, 2**40), min_size=SIZE, max_size=12))
def test_the_same_text_of_two_tenants_has_no_key_in_common(tokens: list[int]) -> None:
    assert not set(keys_of("a", tokens)) & set(keys_of("b", tokens))


def test_a_released_prefix_is_found_again_by_its_tenant_alone() -> None:
    manager = BlockManager(8, SIZE)
    blocks = manager.allocate(2)
    assert blocks is not None
    for block, key in zip(blocks, keys_of("a", [1, 2, 3, 4]), strict=True):
        manager.publish(block, key)
    manager.release(blocks)
    assert manager.find(keys_of("a", [1, 2, 3, 4, 5, 6])) == blocks
    assert manager.find(keys_of("a", [1, 2, 9, 9])) == blocks[:1]
    assert manager.find(keys_of("b", [1, 2, 3, 4])) == []
    assert manager.free == 8


def test_kept_prefixes_are_given_up_by_least_recent_use_and_last_of_all() -> None:
    manager = BlockManager(3, SIZE)
    for name in ("old", "used", "blank"):
        (block,) = manager.allocate(1) or []
        if name != "blank":
            manager.publish(block, root_key(name))
        manager.release([block])
    found = manager.find([root_key("old")])
    manager.share(found)
    manager.release(found)
    assert manager.allocate(1) is not None
    assert manager.find([root_key("used")])
    assert manager.allocate(1) is not None
    assert not manager.find([root_key("used")])
    assert manager.find([root_key("old")])


def test_the_end_of_a_prefix_is_given_up_before_its_beginning() -> None:
    manager = BlockManager(2, SIZE)
    blocks = manager.allocate(2) or []
    keys = keys_of("a", [1, 2, 3, 4])
    for block, key in zip(blocks, keys, strict=True):
        manager.publish(block, key)
    manager.release(blocks)
    manager.allocate(1)
    assert manager.find(keys) == blocks[:1]


def test_sequences_that_grow_in_turn_stay_in_one_piece_while_there_is_room() -> None:
    manager = BlockManager(400, SIZE)
    sequences = [manager.allocate(2, room=10) or [] for _ in range(8)]
    for _ in range(10):
        for blocks in sequences:
            blocks.extend(manager.allocate(1, after=blocks[-1]) or [])
    whole = [blocks == list(range(blocks[0], blocks[0] + 12)) for blocks in sequences]
    assert sum(whole) >= 6


def test_more_than_is_free_is_not_taken_in_part() -> None:
    manager = BlockManager(3, SIZE)
    assert manager.allocate(4) is None
    assert manager.free == 3


def test_a_block_cannot_be_released_twice() -> None:
    manager = BlockManager(3, SIZE)
    blocks = manager.allocate(1) or []
    manager.release(blocks)
    with pytest.raises(ValueError, match="free already"):
        manager.release(blocks)
