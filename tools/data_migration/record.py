"""What a file to import is made of: records that can be stored, and those that cannot be read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from database.models import Base


class Unreadable(Exception):
    """A record cannot be taken as it stands; the message says why."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """A record that is not imported.

    Attributes:
        number: its place in the file, from 1.
        reason: a clause.
        raw: what stands in the file, as far as it could be taken for one record.
    """

    number: int
    reason: str
    raw: bytes


@dataclass(frozen=True, slots=True)
class Call:
    """A function that the assistant has called."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """One message of a chat.

    Attributes:
        role: `system`, `developer`, `user`, `assistant`, or `tool` for what a call returned.
        at: when, if that is known.
        call_id: of a tool's message: whose result it is.
    """

    role: str
    text: str
    at: datetime | None = None
    calls: tuple[Call, ...] = ()
    call_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Chat:
    """A conversation of another software.

    Attributes:
        number: its place in the file, from 1.
        identity: what makes it the same at the next import, beside its place.
        at: when it began, aware; None where the file does not say.
    """

    number: int
    identity: bytes
    raw: bytes
    messages: Sequence[Said]
    at: datetime | None = None
    model: str = "imported"
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Record:
    """Rows that belong together: they are stored together or not at all.

    Attributes:
        keys: the names of keys that the rows refer to, by id.
    """

    number: int
    raw: bytes
    rows: Sequence[Base]
    keys: Mapping[str, str]
