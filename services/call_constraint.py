"""What an answer has to be so that it calls the tools of its request as they want to be called."""

import asyncio

from app.common.errors import InvalidRequest
from services.inference.call_format import CallFormat
from services.inference.constraint import ConstraintError, check
from services.inference.engine import Constraint
from services.inference.tool import ToolUse


async def call_constraint(calls: CallFormat | None, tools: ToolUse) -> Constraint | None:
    """The constraint of the answer; None for a free one. `calls`: how the model writes them, if it does.

    Raises InvalidRequest for what this model cannot do.
    """
    if not tools.offered:
        return None
    if calls is None:
        raise InvalidRequest("The model has not learned to call tools.", param="tools")
    if not tools.strict:
        return calls.constraint(tools)
    if any(tool.strict and (tool.parameters or {}).get("type") != "object" for tool in tools.offered):
        raise InvalidRequest("strict: parameters must be a schema of the type object.", param="tools")
    constraint = calls.strict_constraint(tools)
    if constraint is None:
        # Nothing holds a free answer to a schema: its calls are checked when they are whole.
        return calls.constraint(tools)
    try:
        # A large schema takes long enough to be felt by everybody else's streams.
        await asyncio.to_thread(check, constraint)
    except ConstraintError as error:
        raise InvalidRequest(str(error), param="tools") from error
    return constraint
