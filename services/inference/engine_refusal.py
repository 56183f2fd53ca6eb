"""Why an engine takes no request, before anything of it was generated."""


class EngineOverloaded(Exception):
    """The queue is full. `retry_after`: seconds."""

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after = retry_after


class CeilingReached(EngineOverloaded):
    """The tenant holds as many places of the queue as it may; others may get one."""


class EngineUnavailable(Exception):
    """The engine is loading, gone or restarting. `retry_after`: seconds."""

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after = retry_after
