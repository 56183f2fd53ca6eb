"""Requests that arrive all at once, and when their tokens come."""

import queue
import random
import time
from dataclasses import dataclass, field

from services.inference.engine import (
    Delta,
    End,
    EngineCore,
    Event,
    Failed,
    GenerationRequest,
    PromptLogprobs,
    SamplingParams,
)

SAMPLED = SamplingParams(temperature=0.8, top_p=0.8)
# Every parameter that costs something, for every request.
EVERYTHING = SamplingParams(
    temperature=0.8,
    top_p=0.8,
    top_k=500,
    min_p=0.001,
    seed=1,
    repetition_penalty=1.05,
    frequency_penalty=0.1,
    presence_penalty=0.1,
    logit_bias=dict.fromkeys(range(100), 0.5),
    logprobs=5,
)


@dataclass(slots=True)
class Run:
    """What one round of requests gave.

    Attributes:
        seconds: from the first submission to the last token.
        first: seconds to each answer's first token, in the order they came.
        steps: seconds between two batches of events once every answer has begun.
        answers: token ids by request.
        scores: log-probabilities of its prompt's tokens by request, where they were asked for.
    """

    seconds: float = 0.0
    first: list[float] = field(default_factory=list)
    steps: list[float] = field(default_factory=list)
    answers: dict[str, list[int]] = field(default_factory=dict)
    scores: dict[str, list[float]] = field(default_factory=dict)

    @property
    def tokens(self) -> int:
        """Tokens delivered."""
        return sum(map(len, self.answers.values()))

    @property
    def step(self) -> float:
        """The median decode step in seconds."""
        return sorted(self.steps)[len(self.steps) // 2] if self.steps else 0.0


class Driver:
    """A started engine."""

    def __init__(self, core: EngineCore) -> None:
        self._events: queue.SimpleQueue[tuple[float, list[Event]]] = queue.SimpleQueue()
        self._core = core
        self._round = 0
        core.start(lambda events: self._events.put((time.perf_counter(), events)))

    def run(self, prompts: list[list[int]], new: int, sampling: SamplingParams = SAMPLED) -> Run:
        """Submit the prompts at once and read every answer to its end.

        Raises:
            RuntimeError: a generation failed.
        """
        self._round += 1
        result = Run()
        begin = before = time.perf_counter()
        for index, prompt in enumerate(prompts):
            name = f"{self._round}-{index}"
            request = GenerationRequest(id=name, tenant="t", prompt_ids=prompt, max_tokens=new, sampling=sampling)
            self._core.submit(request)
        left = len(prompts)
        while left:
            now, events = self._events.get(timeout=300)
            if len(result.first) == len(prompts) and left == len(prompts):
                result.steps.append(now - before)
            before = now
            for event in events:
                if isinstance(event, Failed):
                    raise RuntimeError(f"{event.kind}: {event.message}")  # noqa: TRY004  not a wrong type
                if isinstance(event, Delta):
                    answer = result.answers.setdefault(event.id.partition("-")[2], [])
                    if not answer:
                        result.first.append(now - begin)
                    answer += event.token_ids
                elif isinstance(event, PromptLogprobs):
                    scores = result.scores.setdefault(event.id.partition("-")[2], [])
                    scores += [each.logprob for each in event.logprobs]
                elif isinstance(event, End):
                    left -= 1
        result.seconds = time.perf_counter() - begin
        return result

    def close(self) -> None:
        """Stop the engine."""
        self._core.close()


def prompts(count: int, length: int, vocabulary: int, seed: int) -> list[list[int]]:
    """Random prompts that share no beginning."""
    dice = random.Random(seed)  # noqa: S311  not a secret
    return [[dice.randrange(vocabulary) for _ in range(length)] for _ in range(count)]
