"""A request, and what whoever sent it has seen of it: what the rows are held against later."""

from dataclasses import dataclass


@dataclass(slots=True, kw_only=True, eq=False)
class Attempt:
    """One request for an answer. No two have the same prompt, so that a prompt in the log says whose turn it is.

    Attributes:
        key_id: the key's that asked.
        said: the whole answer, as the prompt's script has it.
        status: of HTTP; None if no answer came.
        code: of the error that was told, in place of an answer or as its last event.
        heard: the text that came.
        outcome: how the turn ended, as the last event or the whole answer says; None if that did not come.
        tokens: of prompt and answer, as the last event or the whole answer says.
    """

    tenant_id: str
    key_id: str
    prompt: str
    said: str
    status: int | None = None
    code: str | None = None
    message_id: str | None = None
    heard: str = ""
    outcome: str | None = None
    tokens: tuple[int, int] | None = None

    @property
    def was_accepted(self) -> bool:
        """Whether the service has said that there is a turn."""
        return self.status in {200, 202}

    @property
    def was_refused(self) -> bool:
        """Whether the service has answered that there is none, or that it failed."""
        return self.status is not None and not self.was_accepted
