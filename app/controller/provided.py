"""What the composition root provides to the routes.

Coroutines all: whatever else a route depends on, the framework calls in a thread, which costs more than the rest of it.
"""

from dataclasses import dataclass
from datetime import timedelta, tzinfo
from typing import Annotated, cast

from fastapi import Depends, Request

from database.session import Database
from services.audit_service import AuditService
from services.authentication_service import AuthenticationService
from services.chat_service import ChatService
from services.conversation_service import ConversationService
from services.erasure_service import ErasureService
from services.history_service import HistoryService
from services.idempotency_service import IdempotencyService
from services.inference.engine import Engine
from services.key_service import KeyService
from services.limit_service import LimitService
from services.response_service import ResponseService
from services.retention_service import RetentionService
from services.shutdown import Shutdown
from services.stored_completion_service import StoredCompletionService
from services.stream_access import StreamAccess
from services.tenant_service import TenantService
from services.text_completion_service import TextCompletionService
from services.token_service import TokenService
from services.turn_follower import TurnFollower
from services.turn_runner import TurnRunner
from services.usage_service import UsageService


@dataclass(frozen=True, slots=True, kw_only=True)
class Provided:
    """Everything a route may use. `zone` is None for the machine's own; a `stream_url` is valid for its lifetime."""

    database: Database
    engine: Engine
    shutdown: Shutdown
    runner: TurnRunner
    authentication: AuthenticationService
    chat: ChatService
    follower: TurnFollower
    stream_access: StreamAccess
    stream_url_lifetime: timedelta
    texts: TextCompletionService
    tokens: TokenService
    history: HistoryService
    conversations: ConversationService
    idempotency: IdempotencyService
    responses: ResponseService
    stored_completions: StoredCompletionService
    erasure: ErasureService
    retention: RetentionService
    tenants: TenantService
    keys: KeyService
    audit: AuditService
    usage: UsageService
    limits: LimitService
    zone: tzinfo | None


async def provided(request: Request) -> Provided:
    """What the application's lifespan built."""
    return cast("Provided", request.state.provided)


async def _chat(request: Request) -> ChatService:
    return (await provided(request)).chat


async def _follower(request: Request) -> TurnFollower:
    return (await provided(request)).follower


async def _texts(request: Request) -> TextCompletionService:
    return (await provided(request)).texts


async def _tokens(request: Request) -> TokenService:
    return (await provided(request)).tokens


async def _history(request: Request) -> HistoryService:
    return (await provided(request)).history


async def _responses(request: Request) -> ResponseService:
    return (await provided(request)).responses


async def _stored_completions(request: Request) -> StoredCompletionService:
    return (await provided(request)).stored_completions


async def _conversations(request: Request) -> ConversationService:
    return (await provided(request)).conversations


async def _erasure(request: Request) -> ErasureService:
    return (await provided(request)).erasure


async def _retention(request: Request) -> RetentionService:
    return (await provided(request)).retention


async def _tenants(request: Request) -> TenantService:
    return (await provided(request)).tenants


async def _keys(request: Request) -> KeyService:
    return (await provided(request)).keys


async def _audit(request: Request) -> AuditService:
    return (await provided(request)).audit


async def _usage(request: Request) -> UsageService:
    return (await provided(request)).usage


async def _limits(request: Request) -> LimitService:
    return (await provided(request)).limits


async def _zone(request: Request) -> tzinfo | None:
    return (await provided(request)).zone


Everything = Annotated[Provided, Depends(provided)]
Chat = Annotated[ChatService, Depends(_chat)]
Follower = Annotated[TurnFollower, Depends(_follower)]
Texts = Annotated[TextCompletionService, Depends(_texts)]
TokenIds = Annotated[TokenService, Depends(_tokens)]
History = Annotated[HistoryService, Depends(_history)]
Responses = Annotated[ResponseService, Depends(_responses)]
StoredCompletions = Annotated[StoredCompletionService, Depends(_stored_completions)]
Conversations = Annotated[ConversationService, Depends(_conversations)]
Erasure = Annotated[ErasureService, Depends(_erasure)]
Retention = Annotated[RetentionService, Depends(_retention)]
Tenants = Annotated[TenantService, Depends(_tenants)]
Keys = Annotated[KeyService, Depends(_keys)]
Audit = Annotated[AuditService, Depends(_audit)]
UsageSums = Annotated[UsageService, Depends(_usage)]
TheLimits = Annotated[LimitService, Depends(_limits)]
Zone = Annotated[tzinfo | None, Depends(_zone)]
