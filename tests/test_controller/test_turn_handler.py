"""What the function of a route that makes turns may ask for."""

from collections.abc import Callable
from typing import Annotated, Any

import pytest
from fastapi import Depends, Header, Request, Response
from pydantic import BaseModel

from app.controller.idempotent_route import IdempotentRoute
from app.controller.provided import Everything
from app.controller.router import Router
from tests.service import NEW_MESSAGE, Service


class _Body(BaseModel):
    said: str


async def _of_more(here: Everything) -> object:
    return here


async def _allowed(body: _Body, request: Request, here: Everything) -> _Body:
    return body


async def _without_a_body(request: Request) -> None: ...
async def _with_a_query(body: _Body, limit: int) -> None: ...
async def _with_a_header(body: _Body, accept: Annotated[str, Header()]) -> None: ...
async def _with_a_response(body: _Body, response: Response) -> None: ...
async def _with_two_bodies(body: _Body, other: _Body) -> None: ...
async def _with_what_depends_on_more(body: _Body, more: Annotated[object, Depends(_of_more)]) -> None: ...


def _made(function: Callable[..., Any]) -> None:
    Router(route_class=IdempotentRoute).post("/here")(function)


def test_a_function_gets_a_body_the_request_and_what_depends_on_it_alone() -> None:
    _made(_allowed)


@pytest.mark.parametrize(
    "function",
    [
        _without_a_body,
        _with_a_query,
        _with_a_header,
        _with_a_response,
        _with_two_bodies,
        _with_what_depends_on_more,
    ],
)
def test_one_that_asks_for_more_is_refused_before_it_could_go_without(function: Callable[..., Any]) -> None:
    with pytest.raises(TypeError):
        _made(function)


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        (None, 200),
        ("application/json", 200),
        ("Application/JSON; charset=utf-8", 200),
        ("application/vnd.api+json", 200),
        ("text/plain", 400),
        ("application/x-www-form-urlencoded", 400),
        ("json", 400),
    ],
)
async def test_a_body_is_json_by_its_content_type_or_without_one(
    service: Service, content_type: str | None, status: int
) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}
    answer = await service.ours.post(NEW_MESSAGE, content=b'{"prompt": "hi"}', headers=headers)
    assert answer.status_code == status, answer.text


async def test_who_calls_is_asked_before_the_body_is_looked_at(service: Service) -> None:
    answer = await service.nobody.post(NEW_MESSAGE, content=b"{")
    assert answer.status_code == 401
