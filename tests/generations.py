"""What comes of a place in an engine's queue, for tests that wait for it."""

import asyncio

from services.inference.engine import End, Event, Failed, Generation


def heard(place: Generation) -> asyncio.Queue[Event]:
    """Take up the place; what comes of it, as it comes."""
    events: asyncio.Queue[Event] = asyncio.Queue()
    place.start(events.put_nowait)
    return events


async def all_heard(place: Generation) -> list[Event]:
    """Take up the place of a request for one answer; all that comes of it."""
    coming = heard(place)
    events = [await coming.get()]
    while not isinstance(events[-1], End | Failed):
        events.append(await coming.get())
    return events
