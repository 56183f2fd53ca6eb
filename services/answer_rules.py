"""What an answer has to be: how its tokens are drawn, and what its calls have to meet."""

import asyncio

from msgspec import Struct
from msgspec.structs import replace

from app.common.errors import InvalidRequest
from services.call_constraint import call_constraint
from services.chat_request import ChatRequest
from services.inference.codec import Codec
from services.inference.constraint import ConstraintError, check
from services.inference.engine import SamplingParams
from services.inference.strict_arguments import StrictArguments


class AnswerRules(Struct, frozen=True, kw_only=True):
    """The rules of one request; `strict` is None where no tool is."""

    sampling: SamplingParams
    strict: StrictArguments | None


async def answer_rules(codec: Codec, vocabulary: int, request: ChatRequest) -> AnswerRules:
    """The rules that a request asks for. Raises InvalidRequest for what this model cannot do."""
    sampling, offered = request.sampling, request.tools.offered
    if any(token >= vocabulary for token in sampling.logit_bias):
        raise InvalidRequest("The model has no such token.", param="logit_bias", code="invalid_value")
    calls = await call_constraint(codec.renderer.calls, request.tools)
    if sampling.constraint is not None:
        if offered:
            raise InvalidRequest("Tools and a format do not go together.", param=request.names.format)
        try:
            # A large schema takes long enough to be felt by everybody else's streams.
            await asyncio.to_thread(check, sampling.constraint)
        except ConstraintError as error:
            raise InvalidRequest(str(error), param=request.names.format) from error
    stop_ids = frozenset[int]() if request.ignore_eos else codec.tokenizer.stop_ids
    return AnswerRules(
        sampling=replace(sampling, stop_ids=stop_ids, constraint=calls or sampling.constraint),
        strict=await _strict(request),
    )


async def _strict(request: ChatRequest) -> StrictArguments | None:
    if not request.tools.strict:
        return None
    try:
        return await asyncio.to_thread(StrictArguments, request.tools.offered)
    except ConstraintError as error:
        raise InvalidRequest(str(error), param="tools") from error
