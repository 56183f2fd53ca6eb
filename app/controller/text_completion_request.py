"""From a request of `/v1/completions` to its turns."""

from msgspec.structs import replace

from app.controller.sampling import sampling
from schemas.text_completion_schema import TextCompletionRequest
from services.text_request import TextRequest

ENDPOINT = "/v1/completions"
_MAX_TOKENS = 16
# What is said, by whoever says it, is no parameter: it has a place of its own, or none.
_SAID = {"prompt", "model", "stop", "user"}


def text_request(body: TextCompletionRequest) -> TextRequest:
    """The turns that are asked for."""
    return TextRequest(
        prompts=body.prompt,
        endpoint=ENDPOINT,
        parameters=body.model_dump(exclude=_SAID, exclude_none=True),
        model=body.model,
        user=body.user,
        store=body.store,
        max_tokens=_MAX_TOKENS if body.max_tokens is None else body.max_tokens,
        sampling=replace(sampling(body), logprobs=body.logprobs),
        n=body.n or 1,
        stops=tuple(body.stop or ()),
        ignore_eos=bool(body.ignore_eos),
        echo=bool(body.echo),
    )
