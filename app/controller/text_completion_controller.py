"""`/v1/completions`: OpenAI's older route, on which a model goes on with texts."""

import asyncio

from fastapi import Request, Response

from app.controller.auth import ChatCaller
from app.controller.idempotent_route import IdempotentRoute
from app.controller.provided import Texts
from app.controller.responses import EVENTS, REFUSALS
from app.controller.router import Router
from app.controller.sse import EventStream, limit_headers, whole
from app.controller.text_completion_answer import text_completion
from app.controller.text_completion_chunks import TextCompletionChunks
from app.controller.text_completion_request import ENDPOINT, text_request
from app.controller.turn_handler import json_response
from schemas.text_completion_schema import TextCompletion, TextCompletionRequest

router = Router(route_class=IdempotentRoute, tags=["completions"], responses=REFUSALS)


@router.post(ENDPOINT, response_model=TextCompletion, responses=EVENTS)
async def create_text_completion(
    body: TextCompletionRequest, request: Request, caller: ChatCaller, texts: Texts
) -> Response:
    """Go on with texts as they are, without a chat template; whole, or streamed with `stream: true`."""
    asked = text_request(body)
    request.state.turns = len(asked.prompts)
    started = await texts.start(caller, asked)
    logprobs = body.logprobs is not None
    if body.stream:
        usage = body.stream_options is not None and bool(body.stream_options.include_usage)
        chunks = TextCompletionChunks(started, body.model, logprobs=logprobs, include_usage=usage)
        return EventStream(started.turn, chunks)
    end = await whole(started.turn, request)
    if logprobs:
        # Those of long prompts take long enough to be felt by everybody else's streams.
        answer = await asyncio.to_thread(text_completion, started, end, body.model, logprobs=True)
    else:
        answer = text_completion(started, end, body.model, logprobs=False)
    return json_response(answer, limit_headers(started.turn))
