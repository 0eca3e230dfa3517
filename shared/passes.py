"""Passes of time-driven work, in bounded parts. Those that the wall clock drives leave events their share of the time
(docs/adr/0031); what is asked for by `RunMaintenance` does not rest, since somebody waits for it.
"""

from collections.abc import Awaitable, Callable
from datetime import datetime

from msgspec import Struct

from shared.clock import Clock
from shared.pace import Pace
from shared.postgres.maintenance import may_go_by_clock
from shared.postgres.pool import Pool


class Pass(Struct, frozen=True):
    """What a bounded part of a maintenance pass did."""

    done: int = 0
    """Things that were brought up to date."""
    more: bool = False
    """More is due at the same instant."""


Part = Callable[[datetime, int], Awaitable[Pass]]
"""Does of what is due at an instant so much at most."""


async def run_by_clock(pool: Pool, clock: Clock, pace: Pace, part: Part) -> None:
    """What is due at the present instant, part by part, for as long as no import holds maintenance; nothing where this
    host's clock is wrong.
    """
    now = clock.now()
    while await _may_go(pool, now) and (await paced(pace, part, now)).more:
        pass


async def paced(pace: Pace, part: Part, now: datetime) -> Pass:
    """A part, and the rest that events get after it."""
    async with pace.batch() as batch:
        came_to = await part(now, batch.size)
        # What follows from the things that were counted may be counted too.
        batch.done = min(came_to.done, batch.size)
    return came_to


async def _may_go(pool: Pool, now: datetime) -> bool:
    async with pool.acquire() as connection:
        return await may_go_by_clock(connection, now)
