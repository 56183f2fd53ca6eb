"""What FlashAttention-3 is asked for; a stand-in answers, because the real one runs on Hopper GPUs only."""

import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from services.inference.native import flash
from services.inference.native.paged import Backend, Cache, Step


class StandIn:
    """Remembers the calls."""

    def __init__(self) -> None:
        self.scheduled: list[Any] = []
        self.attended: list[dict[str, Any]] = []

    def get_scheduler_metadata(self, *arguments: Any, **settings: Any) -> torch.Tensor:
        self.scheduled.append((arguments[:6], settings))
        return torch.tensor([len(self.scheduled)])

    def flash_attn_with_kvcache(self, query: torch.Tensor, *_: torch.Tensor, **settings: Any) -> torch.Tensor:
        self.attended.append(settings)
        return query


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    made = StandIn()
    module: Any = SimpleNamespace(
        get_scheduler_metadata=made.get_scheduler_metadata, flash_attn_with_kvcache=made.flash_attn_with_kvcache
    )
    monkeypatch.setitem(sys.modules, "flash_attn_interface", module)
    return made


def step_of(backend: Backend, counts: list[int]) -> tuple[Cache, Step]:
    angles = torch.zeros(8, 4)
    cache = Cache((3, 5, 4, 2, 8), heads=6, cosines=angles, sines=angles, dtype=torch.float32, backend=backend)
    tables = torch.arange(12, dtype=torch.int32).view(4, 3)
    firsts = [sum(counts[:row]) for row in range(len(counts))]
    rows = torch.tensor([firsts, counts, [count + 3 for count in counts], [2, 0][: len(counts)]], dtype=torch.int32)
    nothing = torch.zeros(1, dtype=torch.int32)
    return cache, cache.planned(Step(nothing, nothing, tables, rows, nothing, max(counts), None))


def test_a_step_is_planned_once_and_every_layer_gets_the_plan(stand_in: StandIn) -> None:
    cache, step = step_of("flash", [2, 1])
    assert step.plan is not None
    query = torch.ones(3, 6, 8)
    for _ in range(3):
        assert flash.attend(query, torch.empty(0), torch.empty(0), step.plan) is query
    [(sizes, settings)] = stand_in.scheduled
    assert sizes == (2, 2, 3 * cache.size, 6, 2, 8)
    assert settings["page_size"] == cache.size
    assert len(stand_in.attended) == 3
    for asked in stand_in.attended:
        assert asked["scheduler_metadata"].tolist() == [1]
        assert asked["cu_seqlens_q"].tolist() == settings["cu_seqlens_q"].tolist() == [0, 2, 3]
        assert asked["page_table"].tolist() == [[6, 7, 8], [0, 1, 2]]
        assert asked["cache_seqlens"].tolist() == [5, 4]


@pytest.mark.parametrize(
    ("backend", "counts", "planned", "scheduled"),
    [
        ("unplanned", [2, 1], True, 0),
        ("mixed", [2, 1], True, 1),
        ("mixed", [1, 1], False, 0),
        ("triton", [2], False, 0),
        ("sdpa", [1], False, 0),
    ],
)
def test_only_steps_that_it_attends_are_planned(
    stand_in: StandIn, backend: Backend, counts: list[int], scheduled: int, *, planned: bool
) -> None:
    assert (step_of(backend, counts)[1].plan is not None) is planned
    assert len(stand_in.scheduled) == scheduled
