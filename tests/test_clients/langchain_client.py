"""Asks the service what a test wants to know of LangChain, and prints what came of it as JSON.

Runs in an environment of its own: its packages want others than the service's.
"""

import json
import os
import sys
from collections.abc import Callable
from typing import Any

import openai
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

ENV = os.environ


class City(BaseModel):
    """What a city is."""

    city: str
    large: bool


@tool  # type: ignore[untyped-decorator]  # it is not in the environment of the types
def get_weather(city: str) -> str:
    """The weather of a city."""
    return f"Sunny in {city}."


def chat(**fields: Any) -> Any:
    """A model that tries nothing twice, unless told to."""
    url = f"{ENV['SERVICE_URL']}/v1"
    return ChatOpenAI(**{"base_url": url, "api_key": ENV["KEY"], "model": ENV["MODEL"], "max_retries": 0, **fields})


def whole() -> Any:
    answer = chat().invoke(ENV["SAY"])
    return {"text": answer.content, "usage": answer.usage_metadata, "reason": answer.response_metadata["finish_reason"]}


def streamed() -> Any:
    # A list's sum begins with 0; a stream's with its first chunk.
    first, *rest = chat(stream_usage=True).stream(ENV["SAY"])
    answer = sum(rest, start=first)
    return {"text": answer.content, "usage": answer.usage_metadata, "chunks": len(rest) + 1}


def called() -> Any:
    model = chat().bind_tools([get_weather])
    question = HumanMessage(ENV["CALL"])
    answer = model.invoke([question])
    first, *rest = model.stream([question])
    (call,) = answer.tool_calls
    result = ToolMessage(ENV["SUNNY"], tool_call_id=call["id"])
    return {
        "calls": [one["args"] for one in (call, *sum(rest, start=first).tool_calls)],
        "answer": model.invoke([question, answer, result]).content,
    }


def structured() -> Any:
    methods = ("json_schema", "json_mode")
    found = [chat().with_structured_output(City, method=method).invoke(ENV["JSON"]) for method in methods]
    return [city.model_dump() for city in found]


def error_of(ask: Callable[[], object]) -> Any:
    try:
        ask()
    except openai.APIError as error:
        # The kind of the official client; LangChain has kinds of its own beneath some of them.
        kind = next(each.__name__ for each in type(error).__mro__ if each.__module__.startswith("openai"))
        return {"kind": kind, "code": error.code, "param": error.param}
    return None


def errors() -> Any:
    return {
        "400": error_of(lambda: chat(temperature=3).invoke("hi")),
        "401": error_of(lambda: chat(api_key="sk-nonsense").invoke("hi")),
        "403": error_of(lambda: chat(api_key=ENV["POWERLESS_KEY"]).invoke("hi")),
        "404": error_of(lambda: chat(model="gpt-4").invoke("hi")),
        "409": error_of(lambda: chat(use_responses_api=True).invoke("hi", conversation=ENV["CONVERSATION"])),
        "429": error_of(lambda: chat(api_key=ENV["USED_UP_KEY"], max_retries=5).invoke("hi")),
        "503": error_of(lambda: chat(max_retries=1).invoke(ENV["BREAKING"])),
    }


def broken() -> Any:
    return error_of(lambda: list(chat().stream(ENV["BREAKING"])))


def left() -> Any:
    return next(chunk.content for chunk in chat().stream(ENV["LONG"]) if chunk.content)


if __name__ == "__main__":
    concerns = (whole, streamed, called, structured, errors, broken, left)
    json.dump({concern.__name__: concern() for concern in concerns}, sys.stdout)
