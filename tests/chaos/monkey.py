"""Who breaks things: at random, but the same for the same seed, and who measures how long mending took."""

import asyncio
import random
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from deploy.local.stack import Stack
from tests.chaos.telling import Hearing
from tests.fixtures.clients import ingest
from tests.fixtures.system import System, event

SERVICES: Final = ("orchestrator", "streak", "achievement", "points", "leaderboard", "notification")
REPLICAS: Final = 2


@dataclass(frozen=True)
class Deed:
    """Something that was done to the system, and the time from its end until an event was answered again."""

    what: str
    recovery_seconds: float


@dataclass
class Monkey:
    """Does one thing after the other until it is told to stop."""

    system: System
    stack: Stack
    rng: random.Random
    hearing: Hearing
    deeds: list[Deed] = field(default_factory=list)

    async def run(self, finished: Callable[[], bool]) -> None:
        """Breaks and mends. Whatever was broken is whole again when it returns."""
        while not finished():
            deed = self.rng.choices(
                (
                    self._kill,
                    self._freeze,
                    self._restart_postgres,
                    self._kill_valkey,
                    self._empty_valkey,
                    self._kill_receiver,
                    self._kill_broker,
                ),
                (10, 5, 1, 2, 2, 1, 1),
            )[0]
            what = await deed()
            self.deeds.append(Deed(what, await self._recovery()))
            await asyncio.sleep(self.rng.uniform(0.2, 1.5))

    async def _kill(self) -> str:
        name, replica = self._victim()
        await asyncio.to_thread(self.stack.kill_service, name, replica)
        await asyncio.sleep(self.rng.uniform(0, 2))
        await asyncio.to_thread(self.stack.start_service, name, replica)
        return f"SIGKILL {name}"

    async def _freeze(self) -> str:
        name, replica = self._victim()
        await asyncio.to_thread(self.stack.kill_service, name, replica, signal.SIGSTOP)
        await asyncio.sleep(self.rng.uniform(0.5, 4))
        await asyncio.to_thread(self.stack.kill_service, name, replica, signal.SIGCONT)
        return f"SIGSTOP {name}"

    async def _restart_postgres(self) -> str:
        server = self.stack.postgres
        assert server is not None
        await asyncio.to_thread(server.restart, "immediate")
        return "restart PostgreSQL"

    async def _kill_valkey(self) -> str:
        server = self.stack.valkey
        assert server is not None
        await asyncio.to_thread(server.kill)
        await asyncio.sleep(self.rng.uniform(0, 1))
        await asyncio.to_thread(server.restart)
        return "kill Valkey"

    async def _empty_valkey(self) -> str:
        server = self.stack.valkey
        assert server is not None
        await asyncio.to_thread(server.flush)
        return "empty Valkey"

    async def _kill_receiver(self) -> str:
        await self.hearing.kill()
        await asyncio.sleep(self.rng.uniform(0, 2))
        await self.hearing.start()
        return "kill the receiver"

    async def _kill_broker(self) -> str:
        await self.hearing.nats.kill()
        await asyncio.sleep(self.rng.uniform(0, 2))
        await self.hearing.nats.start()
        return "kill the broker"

    def _victim(self) -> tuple[str, int]:
        return self.rng.choice(SERVICES), self.rng.randrange(REPLICAS)

    async def _recovery(self) -> float:
        """Seconds until a new event of somebody else is answered."""
        began = time.monotonic()
        await ingest(self.system, event("probe", f"probe-{len(self.deeds)}"))
        return time.monotonic() - began


async def whole(stack: Stack) -> None:
    """Starts whatever does not run."""
    starting: list[Callable[[], Awaitable[object]]] = [
        lambda name=name, replica=replica: asyncio.to_thread(stack.start_service, name, replica)  # type: ignore[misc]
        for name in SERVICES
        for replica in range(REPLICAS)
    ]
    for start in starting:
        await start()
