"""Texts that a model goes on with: from a checked request to turns that run."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from msgspec.structs import replace

from app.common.errors import ContextLengthExceeded, InvalidRequest, RateLimited
from database.clock import now
from database.identifier import new_id
from services.chat_service import ChatService
from services.choice import Choice
from services.echo import Echo
from services.inference.codec import Codec
from services.inference.detokenizer import without_controls
from services.inference.engine import Engine, GenerationRequest, SamplingParams
from services.live_turn import LiveTurn
from services.principal import Principal
from services.text_request import TextRequest
from services.token_chances import TokenChances
from services.token_service import spelled
from services.turn_group import TurnGroup
from services.turn_opening import TurnOpening
from services.turn_runner import TurnPlan, TurnRunner


@dataclass(frozen=True, slots=True, kw_only=True)
class StartedTexts:
    """What to listen to: the answers to all prompts, prompt by prompt; and the echo of each prompt, if it is wanted."""

    turn: LiveTurn
    echoes: Sequence[Echo]


@dataclass(frozen=True, slots=True)
class _Prompt:
    """A prompt's text and ids; `spells`: special tokens stand in the text by their names."""

    text: str
    ids: list[int]
    spells: bool


class TextCompletionService:
    """Starts a turn for each prompt of a request, all of them before the first byte."""

    def __init__(self, chat: ChatService, engine: Engine, runner: TurnRunner, *, queue_seconds: float) -> None:
        """Put the parts together.

        Args:
            chat: knows the model and who may use it.
            engine: for its limits.
            runner: runs what is planned here.
            queue_seconds: the longest wait for the engine to begin.
        """
        self._chat = chat
        self._engine = engine
        self._runner = runner
        self._queue_seconds = queue_seconds
        self._groups: set[asyncio.Task[None]] = set()

    async def start(self, principal: Principal, request: TextRequest) -> StartedTexts:
        """Begin the turns; when this returns, their rows are committed and the engine has places for all of them.

        If one is refused, none begins and nothing is charged.

        Raises:
            NotFound: the key may not use the model.
            InvalidRequest: what is asked for is nothing that the model knows.
            ContextLengthExceeded: a prompt does not fit.
            RateLimited: limits of the key or the tenant do not allow all of it.
            Unavailable: no engine, no places, no database.
        """
        codec = await self._chat.text_codec()
        self._chat.check_model(principal, request.model)
        if any(token >= self._engine.limits.vocabulary for token in request.sampling.logit_bias):
            raise InvalidRequest("The model has no such token.", param="logit_bias", code="invalid_value")
        places, count = principal.max_places, len(request.prompts)
        if places is not None and count > places:
            raise RateLimited(f"This request has {count} prompts, more than the limit of {places} places at once.")
        # Many prompts, or a long one, take long enough to be felt by everybody else's streams.
        prompts = await asyncio.to_thread(lambda: [self._read(codec, request, each) for each in request.prompts])
        self._check_room(request, prompts)
        # At the same time: nothing else in the rows says that they belong together.
        at = now()
        group = new_id(at) if len(prompts) > 1 else None
        plans = [self._plan(principal, request, codec, prompt, at, group) for prompt in prompts]
        if len(plans) == 1:
            turns = [await self._runner.start(plans[0])]
        else:
            turns = await self._runner.start_together(plans)
        echoes = [plan.turn.echo for plan in plans if plan.turn.echo is not None]
        return StartedTexts(turn=turns[0] if len(turns) == 1 else self._together(turns), echoes=echoes)

    def _check_room(self, request: TextRequest, prompts: Sequence[_Prompt]) -> None:
        """Refuse a list that could never begin as a whole: to try it again would be in vain."""
        limits = self._engine.limits
        tokens = sum(len(prompt.ids) + request.n * request.max_tokens for prompt in prompts)
        for asked, most, what in (
            (len(prompts), limits.most_places, "prompts"),
            (tokens, limits.most_tokens, "tokens in several prompts"),
        ):
            if len(prompts) > 1 and most is not None and asked > most:
                raise InvalidRequest(
                    f"The engine's queue has room for {most} {what} of a tenant, and this request has {asked}.",
                    param="prompt",
                    code="invalid_value",
                )

    def _together(self, turns: Sequence[LiveTurn]) -> LiveTurn:
        group = TurnGroup(turns)
        task = asyncio.create_task(group.run())
        self._groups.add(task)
        task.add_done_callback(self._groups.discard)
        return group.turn

    def _read(self, codec: Codec, request: TextRequest, prompt: str | Sequence[int]) -> _Prompt:
        ids = codec.tokenizer.encode_whole(prompt) if isinstance(prompt, str) else list(prompt)
        limits = self._engine.limits
        if not ids:
            raise InvalidRequest("There is nothing to go on with.", param="prompt", code="invalid_value")
        if max(ids) >= limits.vocabulary:
            raise InvalidRequest("The model has no such token.", param="prompt", code="invalid_value")
        if len(ids) + request.max_tokens > limits.context_window:
            raise ContextLengthExceeded(
                f"The model's context window is {limits.context_window} tokens; the prompt has {len(ids)} and "
                f"max_tokens asks for {request.max_tokens}.",
                param="prompt" if len(ids) >= limits.context_window else "max_tokens",
            )
        if isinstance(prompt, str):
            return _Prompt(prompt, ids, spells=False)
        return _Prompt(spelled(codec.tokenizer, ids), ids, spells=True)

    def _plan(
        self,
        principal: Principal,
        request: TextRequest,
        codec: Codec,
        prompt: _Prompt,
        at: datetime,
        group: str | None,
    ) -> TurnPlan:
        turn = LiveTurn(
            id=new_id(at), conversation_id=None, created_at=at, prompt_tokens=len(prompt.ids), count=request.n
        )
        if request.echo:
            names = None if request.sampling.logprobs is None else TokenChances(codec.tokenizer)
            turn.echo = Echo(prompt.text, prompt.ids, names, spells=prompt.spells)
        opening = TurnOpening(
            principal=principal,
            # What the ids of a caller stand for may be what no database can store.
            prompt=without_controls(prompt.text),
            history=[],
            items=[],
            seen_length=None,
            user=request.user,
            endpoint=request.endpoint,
            model=self._chat.model,
            parameters=request.parameters,
            keeps_text=principal.keeps_content and request.store is not False,
            max_tokens=request.max_tokens * request.n,
        )
        generation = GenerationRequest(
            id=turn.id,
            tenant=principal.tenant_id,
            weight=principal.weight,
            max_places=principal.max_places,
            group=group,
            prompt_ids=prompt.ids,
            max_tokens=request.max_tokens,
            n=request.n,
            sampling=_sampling(request, codec),
            deadline=time.monotonic() + self._queue_seconds,
        )
        choices = [_choice(request, codec, index) for index in range(request.n)]
        return TurnPlan(turn=turn, opening=opening, request=generation, choices=choices)


def _sampling(request: TextRequest, codec: Codec) -> SamplingParams:
    return replace(
        request.sampling,
        stop_ids=frozenset() if request.ignore_eos else codec.tokenizer.stop_ids,
        prompt_logprobs=request.sampling.logprobs if request.echo else None,
    )


def _choice(request: TextRequest, codec: Codec, index: int) -> Choice:
    scored = request.sampling.logprobs is not None
    chances = TokenChances(codec.tokenizer, shows_stop=True) if scored else None
    return Choice(codec.continuation(), index=index, stops=request.stops, chances=chances)
