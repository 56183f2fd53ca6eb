from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.inference.native.block_manager import BlockManager
from services.inference.native.scheduler import Plan, Scheduler
from tests.test_services.test_inference.test_native.driving import request


def scheduler(blocks: int = 50, max_running: int = 4, max_step_tokens: int = 8, size: int = 2) -> Scheduler:
    return Scheduler(BlockManager(blocks, size), max_running=max_running, max_step_tokens=max_step_tokens)


def compute(subject: Scheduler, now: float = 0.0) -> Plan:
    """Plan a step and do to the sequences what computing it would do."""
    plan = subject.plan(now)
    finish(subject, plan)
    return plan


def finish(subject: Scheduler, plan: Plan) -> None:
    for chunk in plan.chunks:
        sequence = chunk.sequence
        if sequence.ended:
            continue
        if chunk.samples:
            sequence.drawing -= 1
            sequence.output.append(0)
        subject.done(chunk)
        if len(sequence.output) == sequence.request.max_tokens:
            subject.remove(sequence.request.id)


actions = st.one_of(
    st.tuples(st.just("add"), st.integers(1, 30), st.integers(1, 6), st.sampled_from("abc")),
    st.tuples(st.just("abort"), st.integers(0, 50)),
    st.tuples(st.just("step")),
)


@settings(deadline=None, max_examples=200)
@given(
    script=st.lists(actions, max_size=60),
    max_running=st.integers(1, 5),
    slack=st.integers(1, 9),
    blocks=st.integers(18, 60),
    ahead=st.integers(0, 1),
)
def test_whatever_arrives_aborts_and_is_put_back_bounds_hold_nothing_leaks_and_everything_ends(
    script: list[tuple[str, int, int, str] | tuple[str, int] | tuple[str]],
    max_running: int,
    slack: int,
    blocks: int,
    ahead: int,
) -> None:
    cache = BlockManager(blocks, 2)
    subject = Scheduler(cache, max_running=max_running, max_step_tokens=max_running + slack)
    under_way: list[Plan] = []
    added = 0

    def step() -> None:
        plan = subject.plan(0.0)
        assert len(plan.chunks) <= max_running
        assert len({chunk.slot for chunk in plan.chunks}) == len(plan.chunks)
        assert sum(chunk.count for chunk in plan.chunks) <= max_running + slack
        assert all(chunk.count >= 1 and len(chunk.sequence.blocks) * 2 >= chunk.end for chunk in plan.chunks)
        owners = Counter(block for sequence in subject.running for block in sequence.blocks)
        assert all(cache.owners(block) == owners[block] for block in range(blocks))
        assert cache.free == blocks - len(owners)
        for sequence in subject.running:
            # What somebody else may read as well is never written: it lies before what is computed next.
            shared = [index for index, block in enumerate(sequence.blocks) if owners[block] > 1]
            chunk = next((each for each in plan.chunks if each.sequence is sequence), None)
            assert chunk is None or all(index * 2 + 2 <= chunk.begin for index in shared)
        under_way.append(plan)
        if len(under_way) > ahead or not plan.chunks:
            finish(subject, under_way.pop(0))

    for action in script:
        if len(action) == 4:
            _, prompt, max_tokens, tenant = action
            subject.add(request(str(added), [1] * prompt, max_tokens, tenant=tenant))
            added += 1
        elif len(action) == 2:
            subject.remove(str(action[1]))
        else:
            step()
    for _ in range(added * 100 + 2):
        if subject.idle and not under_way:
            break
        step()
    assert subject.idle
    assert cache.free == blocks


@settings(deadline=None)
@given(
    crowd=st.integers(1, 500),
    prompt=st.integers(1, 40),
    answer=st.integers(1, 20),
    before=st.integers(0, 30),
    max_running=st.integers(2, 8),
)
def test_however_many_requests_a_tenant_has_another_tenants_single_one_waits_one_round_at_the_most(
    crowd: int, prompt: int, answer: int, before: int, max_running: int
) -> None:
    subject = scheduler(blocks=60, max_running=max_running, max_step_tokens=max_running + 8)
    for index in range(crowd):
        subject.add(request(f"many{index}", [index] * prompt, answer, tenant="many"))
    for _ in range(before):
        compute(subject)
    subject.add(request("single", [1, 2], 3, tenant="one"))
    # A turn of the other tenant is a quantum of 256 tokens at the most, and each step has at least 8 for prompts.
    round_steps = -(-256 // 8)
    for _ in range(round_steps + 1):
        planned = {chunk.sequence.request.id for chunk in compute(subject).chunks}
        if "single" in planned:
            return
    raise AssertionError("the single request was not reached in a round")


def test_a_tenant_that_comes_later_gets_its_seat_in_the_next_step() -> None:
    subject = scheduler(blocks=400, max_running=4, max_step_tokens=600)
    for index in range(500):
        subject.add(request(f"many{index}", [1, 2, 3], 40, tenant="many"))
    compute(subject)
    subject.add(request("single", tenant="one"))
    ran = [chunk.sequence.request.id for chunk in compute(subject).chunks]
    assert sorted(ran) == ["many0", "many1", "many2", "single"]
    assert subject.waiting[-1].request.id == "many3"


def test_seats_and_tokens_are_divided_by_weight() -> None:
    subject = scheduler(blocks=4000, max_running=8, max_step_tokens=80)
    for index in range(100):
        subject.add(request(f"heavy{index}", [1] * 50, 10, tenant="heavy", weight=3))
        subject.add(request(f"light{index}", [1] * 50, 10, tenant="light"))
    tokens: Counter[str] = Counter()
    for _ in range(120):
        for chunk in compute(subject).chunks:
            tokens[chunk.sequence.request.tenant] += chunk.count
    assert 2.3 < tokens["heavy"] / tokens["light"] < 4


def test_tenants_without_a_rival_use_the_whole_step() -> None:
    subject = scheduler(blocks=4000, max_running=8, max_step_tokens=1000)
    for index in range(8):
        subject.add(request(str(index), [index] * 500, 10))
    assert sum(chunk.count for chunk in compute(subject).chunks) == 1000


def test_a_large_request_is_overtaken_only_while_its_tenant_has_something_running() -> None:
    subject = scheduler(blocks=10)
    subject.add(request("first", [1] * 5, 6))
    compute(subject)
    subject.add(request("large", [1] * 12, 6, tenant="u"))
    compute(subject)
    subject.add(request("small", [1], 1))
    while "large" in {sequence.request.id for sequence in subject.waiting}:
        assert "small" not in {chunk.sequence.request.id for chunk in compute(subject).chunks}
    assert "large" in {sequence.request.id for sequence in subject.running}


def test_a_long_prompt_is_computed_in_chunks_beside_running_answers() -> None:
    subject = scheduler(max_step_tokens=8)
    subject.add(request("talks", [1], 20))
    compute(subject)
    subject.add(request("long", [1] * 20, 1))
    counts = [{chunk.sequence.request.id: chunk.count for chunk in compute(subject).chunks} for _ in range(3)]
    assert counts == [{"talks": 1, "long": 7}, {"talks": 1, "long": 7}, {"talks": 1, "long": 6}]


def test_a_full_cache_puts_the_last_one_back_and_it_goes_on_where_it_was() -> None:
    subject = scheduler(blocks=6)
    subject.add(request("early", [1, 2, 3], 8))
    subject.add(request("late", [4, 5, 6], 6))
    compute(subject)
    late = subject.running[1]
    while late.slot >= 0:
        compute(subject)
    assert [sequence.request.id for sequence in subject.running] == ["early"]
    drawn = len(late.output)
    while not late.ended:
        compute(subject)
    assert 0 < drawn < len(late.output) == 6
    assert late.cached == 0


def test_a_request_that_did_not_start_by_its_deadline_expires_and_one_that_started_does_not() -> None:
    subject = scheduler(max_running=1)
    subject.add(request("runs", max_tokens=20, deadline=5))
    subject.add(request("waits", deadline=5))
    subject.add(request("patient"))
    assert subject.plan(5).expired == []
    assert [sequence.request.id for sequence in subject.plan(5.1).expired] == ["waits"]
    assert [sequence.request.id for sequence in subject.running] == ["runs"]
    assert [sequence.request.id for sequence in subject.waiting] == ["patient"]


def test_what_can_never_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        scheduler(blocks=5).add(request("r", [1] * 6, 5))


@pytest.mark.parametrize("started", [True, False])
def test_an_id_in_use_is_refused(*, started: bool) -> None:
    subject = scheduler()
    subject.add(request("r"))
    if started:
        subject.plan(0)
    with pytest.raises(ValueError, match="in use"):
        subject.add(request("r"))


def test_bounds_that_could_stall_a_prompt_are_refused() -> None:
    with pytest.raises(ValueError, match="max_step_tokens"):
        scheduler(max_running=8, max_step_tokens=8)


def test_what_runs_waits_and_is_found_in_the_cache_is_counted() -> None:
    clock = [10.0]
    subject = Scheduler(BlockManager(20, 2), max_running=1, max_step_tokens=8, clock=lambda: clock[0])
    for name in ("first", "second"):
        subject.add(request(name, [1, 2, 3, 4, 5], 2))
    plan = compute(subject)
    now = subject.occupancy
    assert (now.running, now.waiting) == (1, 1)
    assert now.cache_usage == pytest.approx(3 / 20)
    assert (now.prefix_queries, now.prefix_hits) == (5, 0)
    assert plan.chunks[0].sequence.queued == 0.0
    clock[0] = 12.5
    compute(subject)
    (second,) = compute(subject).chunks
    assert second.sequence.queued == 2.5
    assert (subject.occupancy.prefix_queries, subject.occupancy.prefix_hits) == (10, 4)
    compute(subject)
    assert (subject.occupancy.running, subject.occupancy.waiting, subject.occupancy.cache_usage) == (0, 0, 0.0)
