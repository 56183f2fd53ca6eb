"""Chat turns: from a checked request to a plan that can run."""

import asyncio
import time
from collections.abc import Sequence

from msgspec import Struct

from app.common.errors import InvalidRequest, NotFound, Unavailable
from database.clock import now
from database.identifier import new_id
from database.session import Database
from services.answer_rules import AnswerRules, answer_rules
from services.chat_request import ChatRequest
from services.choice import Choice
from services.content_policy import check_kept
from services.context_reader import ContextReader
from services.inference.codec import Codec, Codecs
from services.inference.engine import Engine, GenerationRequest
from services.inference.engine_refusal import EngineUnavailable
from services.inference.prompt import Message
from services.inference.tokenizer import TokenizerError
from services.live_turn import LiveTurn
from services.principal import Principal
from services.prompt_messages import UnmatchedCall, messages_of
from services.prompt_window import FittedPrompt, PromptWindow
from services.said_item import SaidItem
from services.token_chances import TokenChances
from services.turn_opening import TurnOpening
from services.turn_runner import TurnPlan, TurnRunner

# Characters whose tokenizing takes less time than changing to a thread.
_SHORT = 4000


class StartedTurn(Struct, frozen=True, kw_only=True):
    """A turn that runs, all that was said before its answer, and whether it will be there by its id."""

    turn: LiveTurn
    messages: Sequence[Message]
    stored: bool


class ChatService:
    """Reads the conversation, fits it into the window, and starts the turn.

    Attributes:
        since: when it began to, in seconds since 1970.
    """

    def __init__(
        self,
        database: Database,
        engine: Engine,
        runner: TurnRunner,
        *,
        model_name: str | None,
        default_max_tokens: int,
        queue_seconds: float,
        unheard_seconds: float,
    ) -> None:
        """Put the parts together.

        Args:
            database: for what was said before.
            engine: for its limits.
            runner: runs what is planned here.
            model_name: the name clients see; None for the last part of the engine's.
            default_max_tokens: new tokens at the most when a request does not say.
            queue_seconds: the longest wait for the engine to begin.
            unheard_seconds: how long a background turn runs on when nobody listens.
        """
        self._context = ContextReader(database)
        self._engine = engine
        self._runner = runner
        self._model_name = model_name
        self._default_max_tokens = default_max_tokens
        self._queue_seconds = queue_seconds
        self._unheard_seconds = unheard_seconds
        self._codecs = Codecs()
        self.since = int(time.time())

    @property
    def model(self) -> str:
        """The name clients see. Raises EngineUnavailable while it is the engine's to say."""
        return self._model_name or self._engine.limits.model.rstrip("/").rpartition("/")[2]

    def models(self, principal: Principal) -> list[str]:
        """What this caller may ask, by name. Raises Unavailable while a name is the engine's to say."""
        try:
            model = self.model
        except EngineUnavailable as error:
            raise _without_engine(error) from error
        return [model] if principal.models is None or model in principal.models else []

    def check_model(self, principal: Principal, model: str | None) -> None:
        """Raise NotFound unless the caller may use this model; None is whichever is there."""
        names = self.models(principal)
        if not names or model not in {None, *names}:
            raise NotFound(
                "There is no such model, or the API key may not use it.", param="model", code="model_not_found"
            )

    @property
    def context_window(self) -> int:
        """Tokens of prompt and answer together. Raises EngineUnavailable until the engine has been ready once."""
        return self._engine.limits.context_window

    async def codec(self) -> Codec:
        """The model's codec. Raises Unavailable without an engine, or for a model that is not for chat."""
        codec = await self.text_codec()
        if codec.refusal is not None:
            message = f"The model cannot hold conversations: {codec.refusal}"
            raise Unavailable(message, code="model_unusable") from codec.refusal
        return codec

    async def text_codec(self) -> Codec:
        """The same, also for a model that only continues texts: it has a tokenizer, perhaps no prompt format."""
        try:
            return await self._codecs.of(self._engine.limits)
        except EngineUnavailable as error:
            raise _without_engine(error) from error
        except TokenizerError as error:
            raise Unavailable(f"The model's tokenizer cannot be used: {error}", code="model_unusable") from error

    async def start(self, principal: Principal, request: ChatRequest) -> StartedTurn:
        """Begin a turn; when this returns, its row is committed and the engine has a place for it.

        Raises:
            NotFound: the conversation is not there, or not this tenant's; or the key may not use the model.
            InvalidRequest: what the tenant's content policy forbids is asked for, or what cannot run in the background.
            ContextLengthExceeded: the prompt does not fit.
            Conflict: another turn of the conversation is running.
            RateLimited: limits of the key or the tenant do not allow it.
            Unavailable: no engine, no place, no database.
        """
        codec = await self.codec()
        self.check_model(principal, request.model)
        keeps_text = _keeps_text(principal, request)
        rules = await answer_rules(codec, self._engine.limits.vocabulary, request)
        context = await self._context.read(principal, request)
        messages = _messages(request, context.items)
        fitted = await self._fit(codec, request, messages)
        plan = self._plan(
            principal,
            request,
            codec,
            seen_length=context.length,
            fitted=fitted,
            rules=rules,
            keeps_text=keeps_text,
        )
        return StartedTurn(turn=await self._runner.start(plan), messages=messages, stored=plan.opening.stored)

    async def count(self, principal: Principal, request: ChatRequest) -> int:
        """The tokens of the prompt that `start` would begin with, even if they are too many. Raises as `start`."""
        codec = await self.codec()
        self.check_model(principal, request.model)
        await answer_rules(codec, self._engine.limits.vocabulary, request)
        messages = _messages(request, (await self._context.read(principal, request)).items)
        if request.truncates:
            return len((await self._fit(codec, request, messages)).ids)
        return len(await asyncio.to_thread(self._window(codec, request).render, messages))

    def _window(self, codec: Codec, request: ChatRequest) -> PromptWindow:
        return PromptWindow(
            codec, self.context_window, self._default_max_tokens, tools=request.tools, names=request.names
        )

    async def _fit(self, codec: Codec, request: ChatRequest, messages: Sequence[Message]) -> FittedPrompt:
        window = self._window(codec, request)
        fit = window.fit_newest if request.truncates else window.fit
        if not request.tools.offered and sum(map(_size, messages)) <= _SHORT:
            return fit(messages, request.max_tokens)
        # Tokenizing a long prompt takes long enough to be felt by everybody else's streams.
        return await asyncio.to_thread(fit, messages, request.max_tokens)

    def _plan(
        self,
        principal: Principal,
        request: ChatRequest,
        codec: Codec,
        *,
        seen_length: int | None,
        fitted: FittedPrompt,
        rules: AnswerRules,
        keeps_text: bool,
    ) -> TurnPlan:
        at = now()
        remembers = keeps_text and not request.stateless
        stored = keeps_text and request.stored
        turn = LiveTurn(
            id=new_id(at),
            conversation_id=request.conversation_id or new_id(at) if remembers else None,
            created_at=at,
            prompt_tokens=len(fitted.ids),
            count=request.n,
            dropped_turns=fitted.dropped_turns,
            patience=self._unheard_seconds if request.background else 0.0,
            resumable=request.background,
        )
        # What comes before the prompt of a new conversation was said in no turn of this service.
        brought = len(request.items) - 1 if remembers and request.conversation_id is None else 0
        opening = TurnOpening(
            principal=principal,
            prompt=request.prompt,
            history=request.items[:brought],
            items=request.items[brought:],
            seen_length=seen_length,
            user=request.user,
            endpoint=request.endpoint,
            model=self.model,
            parameters={**request.parameters, **(request.shown if stored else {})},
            labels=request.metadata if keeps_text else {},
            stored=stored,
            previous_id=request.previous_id,
            keeps_text=keeps_text,
            max_tokens=fitted.max_tokens * request.n,
        )
        generation = GenerationRequest(
            id=turn.id,
            tenant=principal.tenant_id,
            weight=principal.weight,
            max_places=principal.max_places,
            prompt_ids=fitted.ids,
            max_tokens=fitted.max_tokens,
            n=request.n,
            sampling=rules.sampling,
            deadline=time.monotonic() + self._queue_seconds,
        )
        choices = [_choice(codec, request, rules, index) for index in range(request.n)]
        return TurnPlan(turn=turn, opening=opening, request=generation, choices=choices)


def _messages(request: ChatRequest, past: Sequence[SaidItem]) -> Sequence[Message]:
    told = [] if request.instructions is None else [SaidItem(role="system", text=request.instructions)]
    try:
        return messages_of([*told, *past, *request.items])
    except UnmatchedCall as error:
        param = request.names.history if request.conversation_id is None else request.names.conversation
        raise InvalidRequest(str(error), param=param) from error


def _size(message: Message) -> int:
    return len(message.content) + sum(len(call.arguments) for call in message.tool_calls)


def _choice(codec: Codec, request: ChatRequest, rules: AnswerRules, index: int) -> Choice:
    return Choice(
        codec.reader(request.tools),
        index=index,
        stops=request.stops,
        one_call=request.one_call,
        chances=None if request.sampling.logprobs is None else TokenChances(codec.tokenizer),
        strict=rules.strict,
    )


def _without_engine(error: EngineUnavailable) -> Unavailable:
    return Unavailable(error.message, code="engine_unavailable", retry_after=error.retry_after)


def _keeps_text(principal: Principal, request: ChatRequest) -> bool:
    keeps = principal.keeps_content and request.store is not False
    if request.store:
        check_kept(principal, "store")
    if request.conversation_id is not None and not keeps:
        raise InvalidRequest(
            "What is not kept cannot continue a stored conversation.", param=request.names.conversation
        )
    if request.background and not keeps:
        raise InvalidRequest("What is not kept cannot run in the background.", param="background")
    if request.background and (request.n > 1 or request.tools.offered):
        # Their text alone says where a listener has to go on.
        raise InvalidRequest("Only one answer without tools can run in the background.", param="background")
    return keeps
