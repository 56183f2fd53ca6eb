"""What the API's process and the engine's say to each other: length-prefixed msgpack on a Unix socket.

The client sends Admit, then Start or Abort. The server sends Loading until Ready, answers each Admit with Admitted or
Refused, sends one Step for each step of the engine, with all events of that connection, and says now and then that it
is Alive.
"""

import asyncio
import struct
from typing import TypeVar

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
    """There is no place; `retry_after` seconds."""

    id: str
    message: str
    retry_after: float


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


def send(writer: asyncio.StreamWriter, message: ToServer | ToClient) -> None:
    """Write one message; buffered."""
    payload = _encoder.encode(message)
    writer.write(_LENGTH.pack(len(payload)) + payload)


async def receive_from_client(reader: asyncio.StreamReader) -> ToServer:
    """The next message of a client. Raises WireError."""
    return await _receive(reader, _from_client)


async def receive_from_server(reader: asyncio.StreamReader) -> ToClient:
    """The next message of the server. Raises WireError."""
    return await _receive(reader, _from_server)


async def _receive(reader: asyncio.StreamReader, decoder: Decoder[_Message]) -> _Message:
    try:
        (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
        if length > LARGEST_FRAME:
            raise WireError(f"a frame of {length} bytes")
        return decoder.decode(await reader.readexactly(length))
    except (asyncio.IncompleteReadError, OSError, DecodeError, UnicodeError) as error:
        raise WireError(str(error)) from error
