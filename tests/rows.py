"""Rows for tests: complete and valid, so that a test names only the columns it is about."""

from datetime import timedelta
from typing import Any

from database.clock import now
from database.identifier import new_id
from database.models import (
    AuditEvent,
    Base,
    Conversation,
    IdempotencyKey,
    Item,
    Lease,
    Limit,
    Tenant,
    Turn,
    TurnChunk,
    TurnStatus,
    TurnText,
    Usage,
)
from database.session import Database
from services.audit_service import Actor
from services.principal import Principal

TESTER = Actor(type="command_line", id="the tests")


def a_tenant(name: str = "somebody") -> Tenant:
    at = now()
    return Tenant(id=new_id(at), name=name, created_at=at)


def a_conversation(**columns: Any) -> Conversation:
    at = now()
    return Conversation(**{"id": new_id(at), "length": 0, "created_at": at, "used_at": at, **columns})


def a_turn(principal: Principal, **columns: Any) -> Turn:
    """Completed, unless `status` says otherwise."""
    at = columns.get("created_at") or now()
    finished = None if columns.get("status") == TurnStatus.RUNNING else at
    defaults = {
        "id": new_id(at),
        "key_id": principal.key_id,
        "endpoint": "/chat/new/message/",
        "model": "a-model",
        "parameters": {"temperature": 1.0},
        "status": TurnStatus.COMPLETED,
        "prompt_tokens": 3,
        "created_at": at,
        "finished_at": finished,
    }
    return Turn(**defaults | columns)


def a_text(turn: Turn, prompt: str = "a question", response: str = "an answer") -> TurnText:
    return TurnText(turn_id=turn.id, prompt=prompt, response=response)


def an_item(conversation: Conversation, **columns: Any) -> Item:
    at = now()
    defaults = {
        "id": new_id(at),
        "conversation_id": conversation.id,
        "position": 0,
        "type": "message",
        "role": "user",
        "text": "a question",
        "created_at": at,
    }
    return Item(**defaults | columns)


def a_call(conversation: Conversation, **columns: Any) -> Item:
    defaults = {"type": "function_call", "role": "assistant", "text": '{"a": 1}', "name": "f", "call_id": "call_1"}
    return an_item(conversation, **defaults | columns)


def a_lease(principal: Principal, turn_id: str, **columns: Any) -> Lease:
    defaults = {"turn_id": turn_id, "tenant_id": principal.tenant_id, "owner": new_id()}
    return Lease(**defaults | {"expires_at": now() + timedelta(minutes=1)} | columns)


def an_audit_event(**columns: Any) -> AuditEvent:
    at = now()
    defaults = {"id": new_id(at), "created_at": at, "actor_type": "service", "actor_id": "a test", "action": "a.change"}
    return AuditEvent(**defaults | columns)


def an_idempotency_key(key: str = "a key", **columns: Any) -> IdempotencyKey:
    at = now()
    defaults = {"key": key, "fingerprint": "0" * 64, "attempt": new_id(at), "owner": new_id(at)}
    return IdempotencyKey(**defaults | {"created_at": at, "expires_at": at + timedelta(minutes=1)} | columns)


def a_limit(subject: str, **columns: Any) -> Limit:
    return Limit(subject=subject, **columns)


def a_usage(principal: Principal, **columns: Any) -> Usage:
    sums = ("requests", "cancelled", "failed", "prompt_tokens", "cached_tokens", "completion_tokens")
    times = ("first_token_ms", "duration_ms")
    defaults = {"day": now().date(), "key_id": principal.key_id, "model": "a-model", **dict.fromkeys(sums + times, 1)}
    return Usage(**defaults | columns)


async def store(database: Database, principal: Principal, *rows: Base) -> None:
    """Insert in this order, in one transaction."""
    async with database.begin(principal.tenant_id) as session:
        for row in rows:
            session.add(row)
            await session.flush()


async def store_one_of_each(database: Database, principal: Principal) -> list[Base]:
    """A row in every table that a tenant's turns and changes write; the tenant and its key are there already."""
    conversation = a_conversation(user="a user")
    turn = a_turn(principal, conversation_id=conversation.id, user="a user", labels={"a label": "of it"})
    rows: list[Base] = [
        conversation,
        turn,
        a_text(turn),
        an_idempotency_key(turn_id=turn.id, status=200, headers=[], body=b""),
        TurnChunk(turn_id=turn.id, position=0, text="an "),
        a_call(conversation, turn_id=turn.id),
        a_lease(principal, turn.id),
        an_audit_event(tenant_id=principal.tenant_id),
        a_limit(principal.key_id, requests_per_minute=1000),
        a_usage(principal),
    ]
    await store(database, principal, *rows)
    return rows
