"""OpenAI's routes and their parameters, read from its own Python client."""

import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass

from openai.resources import completions, models
from openai.resources.chat.completions import completions as chat_completions
from openai.resources.chat.completions import messages
from openai.resources.conversations import conversations, items
from openai.resources.responses import input_items, input_tokens, responses

_RESOURCES = (
    chat_completions.Completions,
    messages.Messages,
    completions.Completions,
    models.Models,
    responses.Responses,
    input_items.InputItems,
    input_tokens.InputTokens,
    conversations.Conversations,
    items.Items,
)
# What a method of the client takes for itself.
_THE_CLIENTS = {"self", "extra_headers", "extra_query", "extra_body", "timeout"}
_REQUEST = re.compile(r'self\._(get|post|delete|get_api_list)\(\s*(?:path_template\(\s*)?f?"([^"]+)"')


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A method and a path, as `GET /v1/models/{model}`, and what it takes besides its path."""

    method: str
    path: str
    parameters: tuple[str, ...]


def endpoints() -> Iterator[Endpoint]:
    """All that there is for chat completions, completions, models, responses and conversations."""
    for resource in _RESOURCES:
        for name, method in vars(resource).items():
            if name.startswith("_") or not inspect.isfunction(method):
                continue
            # What sends nothing itself is a helper on top of what does.
            if request := _REQUEST.search(inspect.getsource(method)):
                verb, path = request.groups()
                known = _THE_CLIENTS | set(re.findall(r"\{(\w+)\}", path))
                parameters = [each for each in inspect.signature(method).parameters if each not in known]
                http = "GET" if verb == "get_api_list" else verb.upper()
                yield Endpoint(http, f"/v1{path}", tuple(parameters))
