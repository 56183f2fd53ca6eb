"""`/chat/stream/{message_id}`: listening to a turn that was begun before, and cancelling it."""

import re
from typing import Annotated

from fastapi import Header, Path, Query, Response

from app.common.errors import InvalidRequest
from app.controller.auth import ChatCaller, Listener
from app.controller.chat_events import SEEN_ALL, ChatEvents
from app.controller.provided import Follower
from app.controller.responses import EVENTS, REFUSALS
from app.controller.router import Router
from app.controller.sse import EventStream
from schemas.chat_schema import StoppedTurn, StreamQuery
from schemas.text import Id

router = Router(prefix="/chat", tags=["chat"], responses=REFUSALS)
# After how many milliseconds a browser that lost the connection comes back.
_RETRY = b"retry: 500\n\n"
_EVENT_ID = re.compile(rf"([0-9]{{1,10}})({SEEN_ALL})?")


@router.get("/stream/{message_id}/", include_in_schema=False)
@router.get(
    "/stream/{message_id}",
    response_class=Response,
    responses={**EVENTS, 204: {"description": "All events have been seen."}},
)
async def listen(
    message_id: Annotated[Id, Path()],
    query: Annotated[StreamQuery, Query()],
    listener: Listener,
    follower: Follower,
    last_event_id: Annotated[str | None, Header()] = None,
) -> Response:
    """The events of a turn, those that have been seen left out; their ids are offsets in the text."""
    turn = await follower.follow(listener.tenant_id, message_id, reads_history=listener.reads_history)
    offset, seen_all = _seen(last_event_id) if last_event_id else (query.offset or 0, False)
    if seen_all:
        return Response(status_code=204)
    events = ChatEvents(turn, offset)
    return EventStream(turn, events, first=_RETRY, offset=offset, check=listener.check)


@router.delete("/stream/{message_id}/", include_in_schema=False)
@router.delete("/stream/{message_id}")
async def stop(message_id: Annotated[Id, Path()], caller: ChatCaller, follower: Follower) -> StoppedTurn:
    """Cancel a turn; what it has said so far stays."""
    return StoppedTurn(message_id=message_id, status=await follower.cancel(caller.tenant_id, message_id))


def _seen(event_id: str) -> tuple[int, bool]:
    """What an event's id says that its listener has: so much of the text, and whether the end."""
    found = _EVENT_ID.fullmatch(event_id)
    if found is None:
        raise InvalidRequest("This is no id of an event of this stream.", param="Last-Event-ID")
    return int(found[1]), found[2] is not None
