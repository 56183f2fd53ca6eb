"""Requests, counted by route."""

from collections.abc import Mapping
from functools import cache

from fastapi.routing import APIRoute
from prometheus_client import CollectorRegistry, Counter
from starlette.types import Scope

from app.common.errors import AppError

_METHODS = {"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"}


class HttpMetrics:
    """What was asked and refused. Labels are the service's own words: no caller can make a new one."""

    def __init__(self, registry: CollectorRegistry) -> None:
        requests = Counter(
            "chatglm:http_requests", "Requests that were answered.", ["method", "route", "status"], registry=registry
        )
        # Looked up once: the library checks the labels anew each time, which takes longer than counting.
        self._requests = cache(requests.labels)
        self._refusals = Counter(
            "chatglm:refusals", "Requests that got an error instead of an answer.", ["code"], registry=registry
        )

    def answered(self, scope: Scope, status: int, noted: Mapping[str, object]) -> None:
        """A request was answered so; `noted` has the error's code, if there was one."""
        route = scope.get("route")
        path = route.path_format if isinstance(route, APIRoute) else "none"
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._requests(method, path, status).inc()
        if "code" in noted:
            self._refusals.labels(noted["code"]).inc()

    def refused(self, error: AppError) -> None:
        """A request was refused before there was a route for it."""
        self._refusals.labels(error.code).inc()
