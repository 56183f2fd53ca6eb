"""The framework's application, without what it puts around every request and this service has no use for."""

from fastapi import FastAPI
from fastapi.middleware.asyncexitstack import AsyncExitStackMiddleware
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.types import ASGIApp


class Application(FastAPI):
    """Answers with its routes inside the middleware that was added, and nothing else.

    The framework's bounds on bodies, its traces and its answers to errors outside of all middleware, which are no
    envelopes, cost each message of a stream a call, whether they do anything or not. `app.main` adds ours.
    """

    def build_middleware_stack(self) -> ASGIApp:
        """Put it together; called once."""
        # Routes of the framework's own kind close in the innermost what they have opened.
        answer: ASGIApp = ExceptionMiddleware(AsyncExitStackMiddleware(self.router), handlers=self.exception_handlers)
        for added in reversed(self.user_middleware):
            answer = added.cls(answer, *added.args, **added.kwargs)
        return answer
