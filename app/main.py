"""The composition root: settings in, application out."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TypedDict
from zoneinfo import ZoneInfo

from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from app.application import Application
from app.common.errors import Unavailable
from app.common.handlers import install_handlers
from app.controller import (
    admin_audit_controller,
    admin_erasure_controller,
    admin_key_controller,
    admin_limit_controller,
    admin_purge_controller,
    admin_tenant_controller,
    admin_usage_controller,
    chat_controller,
    chat_stream_controller,
    completion_controller,
    conversation_controller,
    conversation_item_controller,
    docs_controller,
    health_controller,
    history_controller,
    model_controller,
    response_controller,
    stored_completion_controller,
    stored_response_controller,
    text_completion_controller,
    token_controller,
    usage_controller,
)
from app.controller.body_limit import BodyLimit
from app.controller.cors import allow_origins
from app.controller.description import describe
from app.controller.entrance import Entrance
from app.controller.http_metrics import HttpMetrics
from app.controller.metrics_controller import metrics_router
from app.controller.provided import Provided
from app.controller.request_id import RequestId
from app.controller.request_trace import RequestTrace
from app.engine_metrics import EngineMetrics
from app.event_loop import EventLoopLag
from app.metrics import new_registry
from app.settings import Settings
from app.storage_metrics import StorageMetrics, transaction_seconds
from app.tracing import Tracing, tracing_to
from app.version import NAME, VERSION
from database.engine import create_engine
from database.session import Database
from services.audit_service import AuditService
from services.authentication_service import AuthenticationService
from services.chat_service import ChatService
from services.conversation_service import ConversationService
from services.erasure_service import ErasureService
from services.history_service import HistoryService
from services.idempotency_service import IdempotencyService
from services.inference.engine_client import EngineClient
from services.key_service import KeyService
from services.key_token import Peppers
from services.limit_service import LimitService
from services.recovery_service import RecoveryService
from services.response_service import ResponseService
from services.retention_service import RetentionService
from services.settlement_file import SettlementFile
from services.settlement_service import SettlementService
from services.shutdown import Shutdown
from services.stored_completion_service import StoredCompletionService
from services.stream_access import StreamAccess
from services.tenant_service import TenantService
from services.text_completion_service import TextCompletionService
from services.token_service import TokenService
from services.turn_follower import TurnFollower
from services.turn_journal import TurnJournal
from services.turn_log import TurnLog
from services.turn_metrics import TurnMetrics
from services.turn_runner import TurnRunner
from services.turn_trace import NO_TRACER
from services.turn_watch import TurnWatch
from services.usage_service import UsageService

# Looked through in this order: what makes turns comes first.
_CONTROLLERS = (
    chat_controller,
    completion_controller,
    response_controller,
    text_completion_controller,
    chat_stream_controller,
    history_controller,
    model_controller,
    stored_response_controller,
    stored_completion_controller,
    conversation_controller,
    conversation_item_controller,
    token_controller,
    usage_controller,
    health_controller,
    docs_controller,
    admin_tenant_controller,
    admin_key_controller,
    admin_limit_controller,
    admin_purge_controller,
    admin_usage_controller,
    admin_erasure_controller,
    admin_audit_controller,
)


class State(TypedDict):
    """What the lifespan leaves on every request."""

    provided: Provided


def create_app(
    settings: Settings, *, secret: bytes, engine_socket: Path, instance: str, tracing: Tracing | None = None
) -> FastAPI:
    """The application.

    Args:
        settings: as loaded.
        secret: what keys are derived from.
        engine_socket: where the engine listens, or will.
        instance: names this process's leases; no other living process may have the same.
        tracing: where spans go; None for what the settings say.
    """
    registry, tracing = new_registry(), tracing or tracing_to(settings.otlp_endpoint)
    app = Application(
        title=NAME,
        version=VERSION,
        redirect_slashes=False,
        # A page of ours; the framework's loads its scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
        # The framework's own traces have queries and exceptions in them.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
        lifespan=lambda app: _serving(
            app, settings, registry, tracing, secret=secret, engine_socket=engine_socket, instance=instance
        ),
    )
    _add_routes(app, settings, registry)
    install_handlers(app)
    describe(app)
    app.state.http_metrics = metrics = HttpMetrics(registry)
    _add_middleware(app, settings, metrics, tracing)
    return app


def _add_routes(app: FastAPI, settings: Settings, registry: CollectorRegistry) -> None:
    routers = [controller.router for controller in _CONTROLLERS]
    if settings.metrics_token is not None:
        routers.append(metrics_router(registry, settings.metrics_token.get_secret_value()))
    for router in routers:
        # Not included: that makes each route once more for this application, and each request is matched twice.
        app.router.routes.extend(router.routes)


def _add_middleware(app: FastAPI, settings: Settings, metrics: HttpMetrics, tracing: Tracing) -> None:
    """The last is the outermost."""
    app.add_middleware(Entrance)
    app.add_middleware(
        BodyLimit, most=settings.max_body_bytes, pause=settings.head_seconds, seconds=settings.body_seconds
    )
    allow_origins(app, settings.origins)
    if tracing.tracer is not NO_TRACER:
        app.add_middleware(RequestTrace, tracer=tracing.tracer)
    app.add_middleware(RequestId, metrics=metrics)


@asynccontextmanager
async def _serving(
    app: FastAPI,
    settings: Settings,
    registry: CollectorRegistry,
    tracing: Tracing,
    *,
    secret: bytes,
    engine_socket: Path,
    instance: str,
) -> AsyncIterator[State]:
    database = Database(
        create_engine(settings.database, pool_size=settings.database_pool, timeout=settings.database_seconds),
        transaction_seconds(registry).observe,
    )
    engine = EngineClient(engine_socket, silence=settings.engine_silence)
    lease = timedelta(seconds=settings.lease_seconds)
    turn_log = TurnLog(database, owner=instance, lease=lease)
    unsettled = SettlementFile(settings.data_dir / "unsettled.journal")
    settlements = SettlementService(turn_log, unsettled)
    runner = TurnRunner(engine, turn_log, settlements, TurnMetrics(registry), tracing.tracer)
    recovery = RecoveryService(database, turn_log, runner, settlements, lease=lease)
    # A database that is being copied can be served, to be read, and one that is away comes back; both are tried
    # again later. What ended before a crash must not be interrupted, so the file comes first.
    with suppress(Unavailable):
        await settlements.replay()
        await recovery.recover(dead_owner=instance)
    follower = TurnFollower(database, runner, unheard_seconds=settings.unheard_seconds)
    app.state.shutdown = shutdown = Shutdown(runner, follower, grace=settings.shutdown_seconds)
    provided = _provided(settings, database, engine, runner, follower, shutdown, secret=secret, instance=instance)
    journal = TurnJournal(database, runner)
    watch = TurnWatch(database, runner, owner=instance)
    for numbers in (EngineMetrics(engine, provided.chat), StorageMetrics(database, settlements, recovery)):
        registry.register(numbers)
    lag = EventLoopLag(registry)
    running = (engine, settlements, recovery, provided.retention, journal, watch, lag)
    background = [asyncio.create_task(one.run()) for one in running]
    try:
        yield State(provided=provided)
    finally:
        await shutdown.run()
        await provided.idempotency.close()
        for task in background:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        unsettled.close()
        await database.close()
        await asyncio.to_thread(tracing.close)


def _provided(
    settings: Settings,
    database: Database,
    engine: EngineClient,
    runner: TurnRunner,
    follower: TurnFollower,
    shutdown: Shutdown,
    *,
    secret: bytes,
    instance: str,
) -> Provided:
    chat = ChatService(
        database,
        engine,
        runner,
        model_name=settings.model_name,
        default_max_tokens=settings.default_max_tokens,
        queue_seconds=settings.queue_seconds,
        unheard_seconds=settings.unheard_seconds,
    )
    peppers = Peppers(secret, *settings.former_secrets)
    return Provided(
        database=database,
        engine=engine,
        shutdown=shutdown,
        runner=runner,
        authentication=AuthenticationService(database, peppers),
        chat=chat,
        follower=follower,
        stream_access=StreamAccess(database, secret, *settings.former_secrets),
        stream_url_lifetime=timedelta(seconds=settings.stream_url_seconds),
        texts=TextCompletionService(chat, engine, runner, queue_seconds=settings.queue_seconds),
        tokens=TokenService(chat),
        history=HistoryService(database),
        conversations=ConversationService(database),
        idempotency=IdempotencyService(
            database,
            owner=instance,
            lease=timedelta(seconds=settings.lease_seconds),
            unheard_seconds=settings.unheard_seconds,
        ),
        responses=ResponseService(database),
        stored_completions=StoredCompletionService(database),
        erasure=ErasureService(database, settings.purge_batch),
        retention=RetentionService(database, batch=settings.purge_batch, interval=settings.purge_seconds),
        tenants=TenantService(database),
        keys=KeyService(database, peppers),
        audit=AuditService(database),
        usage=UsageService(database),
        limits=LimitService(database),
        zone=None if settings.timezone is None else ZoneInfo(settings.timezone),
    )
