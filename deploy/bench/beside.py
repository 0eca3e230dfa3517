"""Events beside other work: one after the other, each of a user of its own, and how long each takes.

They are sent alone and beside the work in turns of some seconds: what else the machine does meets both alike.
"""

import asyncio
import math
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import psutil
from msgspec import Struct

TURN_SECONDS: Final = 2.0
_PAUSE_SECONDS: Final = 0.005


class Spent(Struct):
    """What work has taken, and what events met in its turns and in those without it."""

    seconds: float = 0
    """In its turns."""
    own_seconds: float = 0
    """Processor time of this process in them, that of events with it."""
    server_seconds: float = 0
    """And of PostgreSQL's processes."""
    alone: Sequence[float] = ()
    """Milliseconds of events in turns without it; none where none are sent."""
    beside: Sequence[float] = ()
    """And in those with it."""


class Events:
    """Whoever sends them. `send` sends one of a user with this id, whom nobody has seen before."""

    def __init__(self, send: Callable[[str], Awaitable[object]]) -> None:
        self._send = send
        self._count = 0
        self.is_over = False
        self.is_beside = False
        self.alone: list[float] = []
        self.beside: list[float] = []

    async def go_on(self) -> None:
        """Sends them until it is over."""
        while not self.is_over:
            self._count += 1
            began, was_beside = time.perf_counter(), self.is_beside
            await self._send(f"other-{self._count}")
            took = 1_000 * (time.perf_counter() - began)
            if was_beside or self.is_beside:
                self.beside.append(took)
            else:
                self.alone.append(took)
            await asyncio.sleep(_PAUSE_SECONDS)


async def worked(
    server: psutil.Process,
    go_on: Callable[[], Awaitable[bool]],
    send: Callable[[str], Awaitable[object]] | None,
) -> Spent:
    """Works until `go_on` says that nothing is left: at a stretch where no events are sent, else in turns."""
    spent = Spent()
    if send is None:
        await _turn(server, go_on, spent, math.inf)
        return spent
    events = Events(send)
    sending = asyncio.create_task(events.go_on())
    is_left = True
    while is_left:
        await asyncio.sleep(TURN_SECONDS)
        events.is_beside = True
        is_left = await _turn(server, go_on, spent, TURN_SECONDS)
        events.is_beside = False
    events.is_over = True
    await sending
    spent.alone, spent.beside = events.alone, events.beside
    return spent


async def _turn(
    server: psutil.Process, go_on: Callable[[], Awaitable[bool]], spent: Spent, seconds: float
) -> bool:
    own, servers, began = time.process_time(), seconds_of(server), time.perf_counter()
    is_left = True
    while is_left and time.perf_counter() - began < seconds:
        is_left = await go_on()
    spent.seconds += time.perf_counter() - began
    spent.own_seconds += time.process_time() - own
    spent.server_seconds += seconds_of(server) - servers
    return is_left


def seconds_of(server: psutil.Process) -> float:
    """Processor time of the server's processes that run."""
    times = [process.cpu_times() for process in (server, *server.children())]
    return sum(time.user + time.system for time in times)


def cells(alone: Sequence[float], beside: Sequence[float]) -> list[str]:
    """The medians, and how many times the one is the other."""
    without, during = statistics.median(alone), statistics.median(beside)
    return [f"{without:.2f}", f"{during:.2f}", f"{during / without:.2f}"]
