import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.inference.native.cache import SpanAllocator


@given(
    capacity=st.integers(0, 64),
    actions=st.lists(st.tuples(st.booleans(), st.integers(1, 40), st.integers(0, 100)), max_size=200),
)
def test_spans_never_overlap_never_leak_and_are_refused_only_when_no_gap_is_long_enough(
    capacity: int, actions: list[tuple[bool, int, int]]
) -> None:
    allocator = SpanAllocator(capacity)
    held: dict[int, int] = {}
    for take, size, which in actions:
        if take:
            start = allocator.allocate(size)
            if start is None:
                assert longest_gap(held, capacity) < size
            else:
                held[start] = size
        elif held:
            start = sorted(held)[which % len(held)]
            del held[start]
            allocator.release(start)
        assert allocator.spans == sorted(held.items())
        assert allocator.free == capacity - sum(held.values())
        ends = [0, *(start + size for start, size in allocator.spans)]
        assert all(end <= start for end, (start, _) in zip(ends, allocator.spans, strict=False))
        assert ends[-1] <= capacity
    for start in list(held):
        allocator.release(start)
    if capacity:
        assert allocator.allocate(capacity) == 0


def longest_gap(held: dict[int, int], capacity: int) -> int:
    edges = [0, *(edge for start, size in sorted(held.items()) for edge in (start, start + size)), capacity]
    return max(end - start for start, end in zip(edges[::2], edges[1::2], strict=True))


def test_the_first_gap_that_fits_is_taken() -> None:
    allocator = SpanAllocator(10)
    spans = [allocator.allocate(size) for size in (2, 3, 2)]
    assert spans == [0, 2, 5]
    allocator.release(2)
    assert allocator.allocate(2) == 2
    assert allocator.allocate(3) == 7


def test_a_span_cannot_be_released_twice() -> None:
    allocator = SpanAllocator(10)
    allocator.allocate(2)
    allocator.release(0)
    with pytest.raises(KeyError):
        allocator.release(0)


@pytest.mark.parametrize("size", [0, -1])
def test_an_empty_span_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="at least one token"):
        SpanAllocator(10).allocate(size)
