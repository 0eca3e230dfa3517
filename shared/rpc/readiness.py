"""Health that says what is so: NOT_SERVING until the schema is current and dependencies answer (DESIGN 6)."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from grpc_health.v1 import health, health_pb2

_LOGGER: Final = logging.getLogger(__name__)
_INTERVAL_SECONDS: Final = 1.0
_CHECK_TIMEOUT_SECONDS: Final = 3.0

Check = Callable[[], Awaitable[None]]
"""Raises while what it checks is not ready."""


class Readiness:
    """Runs the checks each second and tells the health service of the outcome."""

    def __init__(self, checks: Mapping[str, Check], service_names: Sequence[str]) -> None:
        self.servicer: Any = health.aio.HealthServicer()
        self._checks = checks
        self._names = ("", *service_names)
        self._failing: dict[str, str] | None = None

    @property
    def ready(self) -> bool:
        """Whether every check passed the last time."""
        return self._failing == {}

    async def refuse(self) -> None:
        """NOT_SERVING, until the first evaluation."""
        await self._tell(health_pb2.HealthCheckResponse.NOT_SERVING)

    async def shut_down(self) -> None:
        """NOT_SERVING from now on, whatever the checks say."""
        await self.servicer.enter_graceful_shutdown()

    async def run(self) -> None:
        """Evaluate each second, for ever."""
        while True:
            await self.evaluate()
            await asyncio.sleep(_INTERVAL_SECONDS)

    async def evaluate(self) -> None:
        """Run every check once, side by side, and tell of a change."""
        problems = await asyncio.gather(*(_problem(check) for check in self._checks.values()))
        failing = {name: text for name, text in zip(self._checks, problems, strict=True) if text}
        if failing == self._failing:
            return
        self._failing = failing
        if failing:
            _LOGGER.warning("not serving", extra={"failing": failing})
            await self._tell(health_pb2.HealthCheckResponse.NOT_SERVING)
        else:
            _LOGGER.info("serving")
            await self._tell(health_pb2.HealthCheckResponse.SERVING)

    async def _tell(self, status: Any) -> None:
        for name in self._names:
            await self.servicer.set(name, status)


async def _problem(check: Check) -> str:
    """What is wrong, or ""."""
    try:
        async with asyncio.timeout(_CHECK_TIMEOUT_SECONDS):
            await check()
    except Exception as error:
        return f"{type(error).__name__}: {error}".partition("\n")[0]
    return ""
