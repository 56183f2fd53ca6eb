"""Steps an engine without its thread, so that tests decide what happens between two steps."""

from dataclasses import dataclass, field

from services.inference.engine import (
    Delta,
    End,
    EngineLimits,
    Event,
    Failed,
    GenerationRequest,
    PromptLogprobs,
    SamplingParams,
    TokenLogprobs,
)
from services.inference.native.answers import Compiler
from services.inference.native.block_manager import BlockManager
from services.inference.native.core import NativeCore, StepRunner
from services.inference.native.errors import Damage
from services.inference.native.scheduler import Scheduler

GREEDY = SamplingParams(temperature=0)


def request(
    name: str,
    prompt: list[int] | None = None,
    max_tokens: int = 4,
    *,
    tenant: str = "t",
    sampling: SamplingParams = GREEDY,
    deadline: float | None = None,
    weight: float = 1.0,
    n: int = 1,
) -> GenerationRequest:
    return GenerationRequest(
        id=name,
        tenant=tenant,
        prompt_ids=prompt or [1, 2, 3],
        max_tokens=max_tokens,
        sampling=sampling,
        deadline=deadline,
        weight=weight,
        n=n,
    )


def _damage(error: BaseException) -> Damage:
    if isinstance(error, MemoryError):
        return "memory"
    return "device" if "CUDA error" in str(error) else "step"


@dataclass
class Driven:
    """An engine on `runner`, and all it has emitted."""

    runner: StepRunner
    blocks: int = 64
    block_size: int = 4
    max_running: int = 8
    max_step_tokens: int = 32
    max_step_scores: int | None = None
    vocabulary: int = 97
    compiler: Compiler | None = None
    events: list[Event] = field(default_factory=list)
    lost: int = 0

    def __post_init__(self) -> None:
        self.cache = BlockManager(self.blocks, self.block_size)
        self.scheduler = Scheduler(
            self.cache,
            max_running=self.max_running,
            max_step_tokens=self.max_step_tokens,
            max_step_scores=self.max_step_scores,
            clock=lambda: 0.0,
        )
        limits = EngineLimits(
            model="m", context_window=self.blocks * self.block_size, vocabulary=self.vocabulary, tokenizer=""
        )
        self.core = NativeCore(
            self.runner,
            self.scheduler,
            limits,
            compiler=self.compiler,
            damage=_damage,
            on_lost=self._on_lost,
        )

    def _on_lost(self) -> None:
        self.lost += 1

    def step(self) -> list[Event]:
        """One turn of the engine's loop."""
        events: list[Event] = []
        self.core._receive(events, wait=False)
        if self.core._step(events):
            self._on_lost()
        self.events += events
        return events

    def finish(self) -> None:
        while not self.core._inbox.empty() or not self.core.idle:
            if self.core._answers.compiling and self.core._drained:
                self.core._inbox.put(self.core._inbox.get())
            self.step()

    @property
    def emptied(self) -> bool:
        return self.cache.free == self.cache.count

    def text(self, name: str, index: int = 0) -> list[int]:
        deltas = (event for event in self.events if isinstance(event, Delta))
        return [token for event in deltas if (event.id, event.index) == (name, index) for token in event.token_ids]

    def scores(self, name: str) -> list[TokenLogprobs]:
        parts = (event for event in self.events if isinstance(event, PromptLogprobs) and event.id == name)
        return [each for event in parts for each in event.logprobs]

    def last(self, name: str, index: int = 0) -> End | Failed:
        ends = [event for event in self.events if isinstance(event, End | Failed) and event.id == name]
        mine = [event for event in ends if isinstance(event, Failed) or event.index == index]
        assert len(mine) == 1, ends
        return mine[0]
