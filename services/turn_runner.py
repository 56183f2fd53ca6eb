"""Runs turns: row opened, tokens generated, row settled; whether anybody still listens or not."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from msgspec import Struct
from opentelemetry.trace import Tracer
from structlog.contextvars import bind_contextvars

from app.common.errors import AppError, ClockWrong, GenerationFailed, OutcomeUnknown, RateLimited, Unavailable
from database.clock import now
from database.models import TurnStatus
from services.choice import Choice
from services.inference.engine import Engine, GenerationRequest
from services.inference.engine_refusal import CeilingReached, EngineOverloaded, EngineUnavailable
from services.joint_opening import JointOpening
from services.live_turn import LiveTurn
from services.settlement import settlement
from services.settlement_service import SettlementService
from services.turn_end import NOTHING, TurnEnd
from services.turn_log import TurnLog
from services.turn_metrics import TurnMetrics
from services.turn_opening import TurnOpening
from services.turn_reading import TurnReading, stopping, usage_so_far
from services.turn_trace import NO_TRACER, TurnTrace

log = logging.getLogger(__name__)


class TurnPlan(Struct, frozen=True, kw_only=True):
    """A turn that may begin: everything that could be refused without the engine or the database has been."""

    turn: LiveTurn
    opening: TurnOpening
    request: GenerationRequest
    choices: Sequence[Choice]


class TurnRunner:
    """Owns the turns of this process from their first row to their last event.

    Attributes:
        stopping: whether new turns are refused.
        clock_is_wrong: whether they are refused until this machine's clock is the database's again.
    """

    def __init__(
        self,
        engine: Engine,
        turn_log: TurnLog,
        settlements: SettlementService,
        metrics: TurnMetrics | None = None,
        tracer: Tracer = NO_TRACER,
    ) -> None:
        self._tracer = tracer
        self._engine = engine
        self._log = turn_log
        self._settlements = settlements
        self._metrics = metrics or TurnMetrics()
        self.stopping = False
        self.clock_is_wrong = False
        self._running: dict[str, tuple[TurnPlan, asyncio.Task[None]]] = {}

    @property
    def running(self) -> list[str]:
        """Ids of the turns that live."""
        return list(self._running)

    @property
    def plans(self) -> list[TurnPlan]:
        """The turns that live, and whose they are."""
        return [plan for plan, _ in self._running.values()]

    def find(self, tenant_id: str, turn_id: str) -> LiveTurn | None:
        """The tenant's turn of that id, if it lives here."""
        plan, _ = self._running.get(turn_id, (None, None))
        return plan.turn if plan is not None and plan.opening.principal.tenant_id == tenant_id else None

    async def start(self, plan: TurnPlan) -> LiveTurn:
        """Begin a turn; when this returns, its row is committed and the engine has a place for it.

        Raises Conflict if another turn of the conversation runs, RateLimited if limits do not allow it, Unavailable
        without an engine, a place or a database.
        """
        self._check()
        turn = plan.turn
        accepted = self._launch(plan, lambda: self._log.open(turn, plan.opening))
        try:
            await asyncio.shield(accepted)
        except asyncio.CancelledError:
            turn.leave()
            accepted.add_done_callback(asyncio.Future.exception)
            raise
        return turn

    async def start_together(self, plans: Sequence[TurnPlan]) -> list[LiveTurn]:
        """Begin turns of one tenant, in no conversation: all, or with nothing charged none. Raises as `start`."""
        self._check()
        opening = JointOpening(self._log, [(plan.turn, plan.opening) for plan in plans])
        accepted = [self._launch(plan, opening.arrive) for plan in plans]
        for one in accepted:
            one.add_done_callback(opening.hear)
        try:
            await asyncio.wait(accepted)
        except asyncio.CancelledError:
            for plan in plans:
                plan.turn.leave()
            raise
        for one in accepted:
            one.result()
        return [plan.turn for plan in plans]

    def _check(self) -> None:
        if self.stopping:
            raise stopping("The service is stopping; try again.")
        if self.clock_is_wrong:
            raise ClockWrong
        self._settlements.check_room()

    def _launch(self, plan: TurnPlan, opens: Callable[[], Awaitable[None]]) -> asyncio.Future[None]:
        """Run a turn in a task of its own; what comes back is done when its row is committed, or says why it is not."""
        turn_id = plan.turn.id
        bind_contextvars(turn_id=turn_id)
        accepted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # The task belongs to the service: a caller that leaves must not tear it down between two writes.
        task = asyncio.create_task(self._run(plan, accepted, opens))
        self._running[turn_id] = plan, task
        task.add_done_callback(lambda _task: self._running.pop(turn_id))
        return accepted

    async def drain(self) -> None:
        """Wait for what runs, heard or not."""
        await asyncio.gather(*(asyncio.shield(task) for _, task in self._running.values()))

    async def close(self) -> None:
        """Cancel what still runs, with its partial text stored, and wait for it."""
        tasks = []
        for plan, task in self._running.values():
            plan.turn.unheard.set()
            tasks.append(task)
        await asyncio.gather(*tasks)

    async def _run(self, plan: TurnPlan, accepted: asyncio.Future[None], opens: Callable[[], Awaitable[None]]) -> None:
        end, trace = None, TurnTrace(self._tracer, plan.opening.model, plan.request)
        try:
            async with self._engine.admit(plan.request) as generation:
                with trace.part("begin turn"):
                    await opens()
                accepted.set_result(None)
                with trace.part("generate"):
                    end = await TurnReading(plan.turn, plan.choices).end(generation)
        except Exception as error:
            if not accepted.done():
                accepted.set_exception(_refusal(error))
                trace.refused(_refusal(error))
                if isinstance(error, OutcomeUnknown):
                    await self._take_back(plan, error)
                return
            # The row is running and somebody listens: whatever happened, the turn must end.
            log.exception("a turn broke")
        failure = GenerationFailed("The answer could not be made.")
        end = end or TurnEnd(status=TurnStatus.FAILED, usage=usage_so_far(plan.turn), error=failure)
        with trace.part("end turn"):
            end = await self._settle(plan, end)
        trace.ended(plan.turn, end)
        seconds = (now() - plan.turn.created_at).total_seconds()
        self._metrics.ended(plan.opening.model, end, seconds)
        plan.turn.end(end)

    async def _settle(self, plan: TurnPlan, end: TurnEnd) -> TurnEnd:
        try:
            await self._settlements.settle(settlement(plan.turn, plan.opening, end))
        except AppError as error:
            return TurnEnd(status=TurnStatus.INTERRUPTED, usage=end.usage, error=error)
        except Exception:
            log.exception("a turn could not be settled; its lease will expire")
            refused = Unavailable("The answer could not be stored.")
            return TurnEnd(status=TurnStatus.INTERRUPTED, usage=end.usage, error=refused)
        return end

    async def _take_back(self, plan: TurnPlan, error: OutcomeUnknown) -> None:
        """End a turn that was refused, though its row may be there: nobody else would before its lease expires."""
        await self._settle(plan, TurnEnd(status=TurnStatus.FAILED, usage=NOTHING, error=error))


def _refusal(error: Exception) -> Exception:
    """What the starter hears of an error before the turn was accepted."""
    match error:
        case CeilingReached():
            return RateLimited(error.message, retry_after=error.retry_after)
        case EngineOverloaded():
            return Unavailable(error.message, code="overloaded", retry_after=error.retry_after)
        case EngineUnavailable():
            return Unavailable(error.message, code="engine_unavailable", retry_after=error.retry_after)
    return error
