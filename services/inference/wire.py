"""What the API's process and the engine's say to each other: length-prefixed msgpack on a Unix socket.

The client sends Admit, then Start or Abort. The server sends Loading until Ready, answers each Admit with Admitted or
Refused, sends one Step for each step of the engine, with all events of that connection, and says now and then that it
is Alive.
"""

import asyncio
import struct
from collections.abc import Iterator
from typing import Generic, TypeVar

from msgspec import DecodeError, Struct
from msgspec.msgpack import Decoder, Encoder

from services.inference.engine import EngineLimits, Event, GenerationRequest
from services.inference.occupancy import Occupancy

LARGEST_FRAME = 64 * 1024 * 1024
_LENGTH = struct.Struct(">I")


class Admit(Struct, frozen=True, tag=True):
    """Ask for a place in the queue."""

    request: GenerationRequest


class Start(Struct, frozen=True, tag=True):
    """Take up the place."""

    id: str


class Abort(Struct, frozen=True, tag=True):
    """Give up the place, or stop what runs in it."""

    id: str


class Loading(Struct, frozen=True, tag=True):
    """The model is being loaded: how far, from 0 to 1, and what is being done."""

    fraction: float
    stage: str


class Ready(Struct, frozen=True, tag=True):
    """The engine can answer."""

    limits: EngineLimits


class Admitted(Struct, frozen=True, tag=True):
    """The place is kept until Start or Abort."""

    id: str


class Refused(Struct, frozen=True, tag=True):
    """There is no place; `retry_after` seconds. `by_ceiling`: for this tenant, which holds as many as it may."""

    id: str
    message: str
    retry_after: float
    by_ceiling: bool = False


class Step(Struct, frozen=True, tag=True):
    """Everything one step of the engine brought for this connection."""

    events: list[Event]


class Alive(Struct, frozen=True, tag=True):
    """The server's process runs, and what its engine is doing; None until there is one."""

    occupancy: Occupancy | None


ToServer = Admit | Start | Abort
ToClient = Loading | Ready | Admitted | Refused | Step | Alive

_Message = TypeVar("_Message")
_encoder = Encoder()
_from_client: Decoder[ToServer] = Decoder(ToServer)
_from_server: Decoder[ToClient] = Decoder(ToClient)


class WireError(Exception):
    """The other side is gone or does not speak this protocol."""


def frame(message: ToServer | ToClient) -> bytes:
    """The bytes of one message."""
    payload = _encoder.encode(message)
    return _LENGTH.pack(len(payload)) + payload


class Inbox(Generic[_Message]):
    """Puts a connection's bytes together to messages, wherever they were cut."""

    def __init__(self, decoder: Decoder[_Message]) -> None:
        self._decoder = decoder
        self._bytes = bytearray()
        # Of the message that has not come whole, so that a large one is not looked at with each piece of it.
        self._wanted = _LENGTH.size

    @classmethod
    def of_client(cls) -> "Inbox[ToClient]":
        """What a server sends."""
        return Inbox(_from_server)

    def push(self, data: bytes) -> Iterator[_Message]:
        """The messages that these bytes complete, to be read to the end. Raises WireError."""
        self._bytes += data
        if len(self._bytes) < self._wanted:
            return
        at = 0
        received, self._bytes = self._bytes, bytearray()
        view = memoryview(received)
        while True:
            self._wanted = _LENGTH.size
            if len(received) - at >= _LENGTH.size:
                self._wanted += _length(received, at)
            if len(received) - at < self._wanted:
                break
            yield _decoded(self._decoder, view[at + _LENGTH.size : at + self._wanted])
            at += self._wanted
        self._bytes += view[at:]


async def receive_from_client(reader: asyncio.StreamReader) -> ToServer:
    """The next message of a client. Raises WireError."""
    return await _receive(reader, _from_client)


async def receive_from_server(reader: asyncio.StreamReader) -> ToClient:
    """The next message of the server. Raises WireError."""
    return await _receive(reader, _from_server)


async def _receive(reader: asyncio.StreamReader, decoder: Decoder[_Message]) -> _Message:
    try:
        payload = await reader.readexactly(_length(await reader.readexactly(_LENGTH.size)))
    except (asyncio.IncompleteReadError, OSError) as error:
        raise WireError(str(error)) from error
    return _decoded(decoder, payload)


def _length(received: bytes | bytearray, at: int = 0) -> int:
    (length,) = _LENGTH.unpack_from(received, at)
    if length > LARGEST_FRAME:
        raise WireError(f"a frame of {length} bytes")
    return int(length)


def _decoded(decoder: Decoder[_Message], payload: bytes | memoryview) -> _Message:
    try:
        return decoder.decode(payload)
    except (DecodeError, UnicodeError) as error:
        raise WireError(str(error)) from error
