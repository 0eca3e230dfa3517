"""What notification measures of itself (DESIGN 7): attempts, what is overdue, and what fails."""

import asyncio
from collections.abc import Iterable
from typing import Final

from opentelemetry.metrics import Observation

from shared.postgres.errors import translate
from shared.postgres.pool import Pool
from shared.telemetry import Telemetry
from shared.telemetry.metrics import Kind, Metric

_INTERVAL_SECONDS: Final = 10.0

ATTEMPTS: Final = Metric(
    Kind.COUNTER,
    "laurel.webhook.attempts",
    "{attempt}",
    "Attempts to deliver, by endpoint and outcome.",
    ("endpoint", "outcome"),
)
SWITCHED_OFF: Final = Metric(
    Kind.COUNTER,
    "laurel.webhook.switched_off",
    "{endpoint}",
    "Endpoints that were switched off because they fail.",
    ("endpoint", "reason"),
)
OVERDUE: Final = Metric(
    Kind.GAUGE,
    "laurel.webhook.overdue",
    "s",
    "For how long the oldest delivery that is due has not been taken by any replica.",
    ("endpoint",),
)
FAILING: Final = Metric(
    Kind.GAUGE, "laurel.stream.failing", "s", "For how long a stream cannot be published to.", ("stream",)
)
BEHIND: Final = Metric(
    Kind.GAUGE,
    "laurel.stream.behind",
    "s",
    "For how long a stream has not been where the feed is, whether its broker fails or is slow.",
    ("stream",),
)
METRICS: Final = (ATTEMPTS, SWITCHED_OFF, OVERDUE, FAILING, BEHIND)
"""What notification measures."""

_OVERDUE: Final = """
    SELECT key, greatest(0, extract(epoch FROM now() - (
               SELECT min(due_time) FROM webhook_lanes WHERE endpoint_id = webhook_endpoints.endpoint_id
           )))::float8 AS seconds
      FROM webhook_endpoints
     WHERE switch_off = 0
"""
_FAILING: Final = """
    SELECT key, greatest(0, extract(epoch FROM now() - failing_since))::float8 AS seconds
      FROM event_streams
     WHERE NOT switched_off
"""
_BEHIND: Final = """
    SELECT key, greatest(0, extract(epoch FROM now() - behind_since))::float8 AS seconds
      FROM event_streams
     WHERE NOT switched_off
"""


class Instrumentation:
    """Gauges of the database, looked up from time to time where anybody reads them."""

    def __init__(self, telemetry: Telemetry, pool: Pool) -> None:
        self._enabled = telemetry.enabled
        self._pool = pool
        self._overdue: dict[str, float] = {}
        self._failing: dict[str, float] = {}
        self._behind: dict[str, float] = {}
        OVERDUE.observed(telemetry.meter, lambda: _observations("endpoint", self._overdue))
        FAILING.observed(telemetry.meter, lambda: _observations("stream", self._failing))
        BEHIND.observed(telemetry.meter, lambda: _observations("stream", self._behind))

    async def run(self) -> None:
        """Never returns."""
        while True:
            if self._enabled:
                try:
                    self._overdue = await self._seconds(_OVERDUE)
                    self._failing = await self._seconds(_FAILING)
                    self._behind = await self._seconds(_BEHIND)
                except Exception as error:
                    if translate(error) is None:
                        raise
            await asyncio.sleep(_INTERVAL_SECONDS)

    async def _seconds(self, query: str) -> dict[str, float]:
        return {row["key"]: row["seconds"] or 0.0 for row in await self._pool.fetch(query)}


def _observations(attribute: str, seconds: dict[str, float]) -> Iterable[Observation]:
    return [Observation(value, {attribute: key}) for key, value in seconds.items()]
