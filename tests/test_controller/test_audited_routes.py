"""Every route that changes something leaves an event in the audit log, without anyone remembering."""

from datetime import timedelta
from typing import Any, NamedTuple

from sqlalchemy import update

from database.clock import now
from database.models import AuditEvent, Conversation
from services.audit_service import AuditService
from tests.rows import TESTER
from tests.service import Service
from tests.test_controller.test_routes import routes, their_ids
from tests.whole_database import columns_holding

_TENANT = "/admin/v1/tenants/{tenant_id}"
_KEY = f"{_TENANT}/keys/{{key_id}}"
_CONVERSATION = "/v1/conversations/{conversation_id}"
_TURN = "its turns are rows themselves, which say who asked"
_SAID = "it is what a tenant says, and tenants' own labels on it; what was said is not in the log"
_CANCELLED = "the turn's row says that it was cancelled"
_NOTHING = "it changes nothing"
EXEMPT = {
    ("POST", "/chat/new/message/"): _TURN,
    ("POST", "/v1/chat/completions"): _TURN,
    ("POST", "/v1/completions"): _TURN,
    ("POST", "/v1/responses"): _TURN,
    ("POST", "/v1/conversations"): _SAID,
    ("POST", f"{_CONVERSATION}/items"): _SAID,
    ("POST", _CONVERSATION): _SAID,
    ("POST", "/v1/chat/completions/{completion_id}"): _SAID,
    ("DELETE", "/chat/stream/{message_id}"): _CANCELLED,
    ("POST", "/v1/responses/{response_id}/cancel"): _CANCELLED,
    ("POST", "/v1/responses/input_tokens"): _NOTHING,
    ("POST", "/v1/tokenize"): _NOTHING,
    ("POST", "/v1/detokenize"): _NOTHING,
}


class Change(NamedTuple):
    """A request, and the events it leaves."""

    method: str
    path: str
    actions: list[str]
    json: dict[str, Any] | None = None
    params: dict[str, str] | None = None


# A transaction for conversations, and one for turns in those of others.
_USER_ERASED = ["user.erase", "user.erase", "user.erased"]
# In this order: what is suspended can be resumed or erased.
CHANGES = [
    Change("DELETE", "/chat/messages/{message_id}", ["turn.erased"]),
    Change("DELETE", "/v1/responses/{response_id}", ["turn.erased"]),
    Change("DELETE", "/v1/chat/completions/{completion_id}", ["turn.erased"]),
    Change("DELETE", f"{_CONVERSATION}/items/{{item_id}}", ["item.erased"]),
    Change("DELETE", _CONVERSATION, ["conversation.erase", "conversation.erased"]),
    Change("DELETE", "/chat/conversations/{conversation_id}", ["conversation.erase", "conversation.erased"]),
    Change("DELETE", "/chat/users", _USER_ERASED, params={"user": "a user"}),
    Change("DELETE", f"{_TENANT}/users", _USER_ERASED, params={"user": "a user"}),
    Change("DELETE", f"{_TENANT}/conversations/{{conversation_id}}", ["conversation.erase", "conversation.erased"]),
    Change("POST", "/admin/v1/tenants", ["tenant.create"], {"name": "new"}),
    Change("POST", _TENANT, ["tenant.change"], {"conversation_days": 30}),
    Change("POST", "/admin/v1/purge", ["tenant.purge"]),
    Change("POST", f"{_TENANT}/limits", ["limit.set"], {"turns_at_once": 5}),
    Change("POST", f"{_TENANT}/keys", ["key.create"], {"name": "more"}),
    Change("POST", _KEY, ["key.change"], {"name": "renamed"}),
    Change("POST", f"{_KEY}/limits", ["limit.set"], {"turns_at_once": 3}),
    Change("POST", f"{_KEY}/rotate", ["key.create", "key.rotate"], {}),
    Change("POST", f"{_KEY}/revoke", ["key.revoke"]),
    Change("POST", f"{_TENANT}/suspend", ["tenant.suspend"]),
    Change("POST", f"{_TENANT}/resume", ["tenant.resume"]),
    Change("POST", f"{_TENANT}/suspend", ["tenant.suspend"]),
    Change("DELETE", _TENANT, ["tenant.erase", "tenant.erased"]),
]


def test_every_route_that_changes_something_is_tried_here_or_exempt() -> None:
    changing = {(method, path) for method, path in routes() if method != "GET"}
    tried = {(change.method, change.path) for change in CHANGES}
    assert tried.isdisjoint(EXEMPT)
    assert tried | EXEMPT.keys() == changing


async def test_every_change_is_in_the_audit_log_with_who_and_what_and_without_content(service: Service) -> None:
    administrator = (await _events(service, 1))[0].target_id
    (caller,) = await service.keys.page(service.their_id, None, 1)
    for change in CHANGES:
        by_admin, is_last = change.path.startswith("/admin"), change.path == _TENANT and change.method == "DELETE"
        ids: dict[str, str] = {"tenant_id": service.their_id}
        if "suspend" not in change.path and "resume" not in change.path and not is_last:
            ids = await their_ids(service)
            # The caller's own must go on.
            ids["key_id"] = (await service.keys.create(TESTER, service.their_id)).row.id
        if change.path.endswith("purge"):
            await _age(service)
        asking = service.admin if by_admin else service.theirs
        before = (await _events(service, 1))[0].id
        response = await asking.request(
            change.method, change.path.format(**ids), json=change.json, params=change.params
        )
        assert response.status_code in {200, 201}, (change, response.text)
        events = [event for event in reversed(await _events(service, 10)) if event.id > before]
        assert [event.action for event in events] == change.actions, change
        for event in events:
            assert (event.actor_type, event.actor_id) == ("api_key", administrator if by_admin else caller.id)
            assert event.request_id == response.headers["x-request-id"]
            assert event.tenant_id is not None
        # Of what is erased, how many rows of each table went.
        assert events[-1].after, change
        if change.actions[-1].endswith("erased"):
            assert all(isinstance(rows, int) and rows > 0 for rows in events[-1].after.values())
    held = await columns_holding(service.database, "secret", "a user")
    assert not any(column.startswith("audit_events") for column in held)


async def _age(service: Service) -> None:
    """Let conversations be older than they are kept."""
    async with service.database.begin(service.their_id) as session:
        await session.execute(update(Conversation).values(used_at=now() - timedelta(days=31)))


async def _events(service: Service, limit: int) -> list[AuditEvent]:
    """The newest."""
    return await AuditService(service.database).page(None, None, limit)
