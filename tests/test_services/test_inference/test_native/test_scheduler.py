import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.inference.native.cache import SpanAllocator
from services.inference.native.scheduler import Plan, Scheduler
from tests.test_services.test_inference.test_native.driving import request


def scheduler(tokens: int = 100, max_running: int = 4, max_step_tokens: int = 8) -> Scheduler:
    return Scheduler(SpanAllocator(tokens), max_running=max_running, max_step_tokens=max_step_tokens)


def compute(subject: Scheduler, now: float = 0.0) -> Plan:
    """Plan a step and do to the sequences what computing it would do."""
    plan = subject.plan(now)
    for chunk in plan.chunks:
        samples = chunk.samples
        chunk.sequence.computed += chunk.count
        if samples:
            chunk.sequence.output.append(0)
            if len(chunk.sequence.output) == chunk.sequence.request.max_tokens:
                subject.remove(chunk.sequence.request.id)
    return plan


actions = st.one_of(
    st.tuples(st.just("add"), st.integers(1, 30), st.integers(1, 6), st.sampled_from("abc")),
    st.tuples(st.just("abort"), st.integers(0, 50)),
    st.tuples(st.just("step")),
)


@given(script=st.lists(actions, max_size=60), max_running=st.integers(1, 5), slack=st.integers(0, 9))
def test_whatever_arrives_and_aborts_bounds_hold_all_that_runs_advances_and_everything_ends(
    script: list[tuple[str, int, int, str] | tuple[str, int] | tuple[str]], max_running: int, slack: int
) -> None:
    spans = SpanAllocator(60)
    subject = Scheduler(spans, max_running=max_running, max_step_tokens=max_running + slack)
    added = 0

    def step() -> None:
        plan = compute(subject)
        assert len(plan.chunks) <= max_running
        assert sum(chunk.count for chunk in plan.chunks) <= max_running + slack
        assert all(chunk.count >= 1 for chunk in plan.chunks)
        planned = {chunk.sequence.request.id for chunk in plan.chunks}
        assert planned >= {sequence.request.id for sequence in subject.running}
        assert {start for start, _ in spans.spans} == {sequence.start for sequence in subject.running}

    for action in script:
        if len(action) == 4:
            _, prompt, max_tokens, tenant = action
            subject.add(request(str(added), [1] * prompt, max_tokens, tenant=tenant))
            added += 1
        elif len(action) == 2:
            subject.remove(str(action[1]))
        else:
            step()
    for _ in range(added * 36):
        if subject.idle:
            break
        step()
    assert subject.idle
    assert spans.free == spans.capacity


def test_tenants_take_turns_however_many_requests_one_of_them_has_waiting() -> None:
    subject = scheduler(max_running=3)
    for index in range(50):
        subject.add(request(f"many{index}", tenant="many"))
    subject.add(request("single", tenant="one"))
    subject.plan(0)
    assert [sequence.request.id for sequence in subject.running] == ["many0", "single", "many1"]


def test_a_tenant_that_comes_later_waits_for_one_round_at_the_most() -> None:
    subject = scheduler(max_running=1)
    for index in range(50):
        subject.add(request(f"many{index}", tenant="many"))
    compute(subject)
    subject.add(request("single", tenant="one"))
    ran = [compute(subject).chunks[0].sequence.request.id for _ in range(11)]
    assert list(dict.fromkeys(ran)) == ["many0", "many1", "single"]


def test_a_large_request_is_not_overtaken_while_it_waits_for_room() -> None:
    subject = scheduler(tokens=20)
    subject.add(request("first", [1] * 5, 10))
    subject.add(request("large", [1] * 10, 10, tenant="u"))
    subject.add(request("small", [1], 1))
    compute(subject)
    while subject.waiting[0].request.id == "large":
        assert "small" not in {chunk.sequence.request.id for chunk in compute(subject).chunks}
    assert [sequence.request.id for sequence in subject.running] == ["large"]


def test_a_long_prompt_is_computed_in_chunks_beside_running_answers() -> None:
    subject = scheduler(max_step_tokens=8)
    subject.add(request("talks", [1], 20))
    compute(subject)
    subject.add(request("long", [1] * 20, 1))
    counts = [{chunk.sequence.request.id: chunk.count for chunk in compute(subject).chunks} for _ in range(3)]
    assert counts == [{"talks": 1, "long": 7}, {"talks": 1, "long": 7}, {"talks": 1, "long": 6}]


def test_prompts_share_a_step_and_what_a_short_one_leaves_goes_to_the_long_one() -> None:
    subject = scheduler(max_step_tokens=12)
    subject.add(request("long", [1] * 40, 1))
    subject.add(request("short", [1] * 3, 1))
    assert {chunk.sequence.request.id: chunk.count for chunk in compute(subject).chunks} == {"short": 3, "long": 9}


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
        scheduler(tokens=10).add(request("r", [1] * 6, 5))


@pytest.mark.parametrize("started", [True, False])
def test_an_id_in_use_is_refused(*, started: bool) -> None:
    subject = scheduler()
    subject.add(request("r"))
    if started:
        subject.plan(0)
    with pytest.raises(ValueError, match="in use"):
        subject.add(request("r"))


def test_bounds_that_could_stall_a_running_answer_are_refused() -> None:
    with pytest.raises(ValueError, match="max_step_tokens"):
        scheduler(max_running=9, max_step_tokens=8)
