"""`/v1/tokenize` and `/v1/detokenize`, as vLLM has them, and `/v1/responses/input_tokens`, as OpenAI has it."""

from app.controller.auth import ChatCaller
from app.controller.completion_messages import conversation
from app.controller.completion_request import tool_use
from app.controller.provided import Chat, Responses, TokenIds
from app.controller.response_items import references
from app.controller.response_request import tokens_request
from app.controller.responses import REFUSALS
from app.controller.router import Router
from schemas.response_request_schema import TokensQuestion
from schemas.response_schema import InputTokens
from schemas.token_schema import DetokenizeAnswer, DetokenizeRequest, TokenizeAnswer, TokenizeRequest

router = Router(prefix="/v1", tags=["tokens"], responses=REFUSALS)


@router.post("/tokenize")
async def tokenize(body: TokenizeRequest, caller: ChatCaller, token_ids: TokenIds) -> TokenizeAnswer:
    """The token ids of a text, or of the prompt that a conversation makes."""
    if body.messages is None:
        found = await token_ids.encode(caller, body.model, body.prompt or "")
    else:
        found = await token_ids.render(caller, body.model, conversation(body.messages), tool_use(body.tools, None))
    return TokenizeAnswer(
        count=len(found.ids),
        max_model_len=found.context_window,
        tokens=found.ids,
        token_strs=found.names if body.return_token_strs else None,
    )


@router.post("/detokenize")
async def detokenize(body: DetokenizeRequest, caller: ChatCaller, token_ids: TokenIds) -> DetokenizeAnswer:
    """The text that token ids stand for."""
    return DetokenizeAnswer(prompt=await token_ids.decode(caller, body.model, body.tokens))


@router.post("/responses/input_tokens")
async def count_input_tokens(body: TokensQuestion, caller: ChatCaller, chat: Chat, responses: Responses) -> InputTokens:
    """How many tokens a response's prompt would have, with all that it goes on from."""
    known = await responses.items(caller, references(body.input))
    return InputTokens(input_tokens=await chat.count(caller, tokens_request(body, known)))
