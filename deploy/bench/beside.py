"""Events beside other work: one after the other, each of a user of its own, and how long each takes."""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

_PAUSE_SECONDS: Final = 0.005


class Events:
    """Whoever sends them. `send` sends one of a user with this id, whom nobody has seen before."""

    def __init__(self, send: Callable[[str], Awaitable[object]]) -> None:
        self._send = send
        self._count = 0
        self._is_over = False

    async def alone(self, users: int) -> list[float]:
        """Milliseconds of some events, before there is work beside them; of more where there will be more work."""
        return await self._sent(min(5.0, 1 + users / 20_000))

    async def beside(self) -> list[float]:
        """Milliseconds of events until the work is over."""
        return await self._sent(3_600.0)

    def end(self) -> None:
        """The work is over."""
        self._is_over = True

    async def _sent(self, seconds: float) -> list[float]:
        self._is_over = False
        times: list[float] = []
        until = time.perf_counter() + seconds
        while not self._is_over and time.perf_counter() < until:
            self._count += 1
            began = time.perf_counter()
            await self._send(f"other-{self._count}")
            times.append(1_000 * (time.perf_counter() - began))
            await asyncio.sleep(_PAUSE_SECONDS)
        return times


def cells(alone: Sequence[float], beside: Sequence[float]) -> list[str]:
    """The medians, and how many times the one is the other."""
    without, during = statistics.median(alone), statistics.median(beside)
    return [f"{without:.2f}", f"{during:.2f}", f"{during / without:.2f}"]
