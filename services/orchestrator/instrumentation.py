"""What the orchestrator measures of itself (DESIGN 7): events, groups, queues, and sagas that are open."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from opentelemetry import trace
from opentelemetry.metrics import Observation

from services.orchestrator.saga import Step
from services.orchestrator.store.domain_events import DomainEventStore
from services.orchestrator.store.sagas import Backlog, SagaStore
from shared.postgres.errors import translate
from shared.telemetry import Telemetry
from shared.telemetry.metrics import Kind, Metric

_LOGGER: Final = logging.getLogger(__name__)
_INTERVAL_SECONDS: Final = 10.0

EVENTS: Final = Metric(
    Kind.COUNTER, "laurel.events", "{event}", "Entries answered, by outcome.", ("outcome",)
)
GROUPS: Final = Metric(Kind.HISTOGRAM, "laurel.group.size", "{event}", "Entries recorded together.")
QUEUE: Final = Metric(Kind.GAUGE, "laurel.queue.depth", "{event}", "Entries that wait at the intake.")
SAGAS: Final = Metric(
    Kind.GAUGE, "laurel.sagas", "{saga}", "Sagas that are not finished, or parked.", ("state",)
)
OLDEST: Final = Metric(
    Kind.GAUGE, "laurel.sagas.oldest_age", "s", "Age of the oldest saga that is not finished."
)
LAG: Final = Metric(
    Kind.GAUGE,
    "laurel.domain_events.lag",
    "s",
    "For how long domain events have been held back by older transactions.",
)
FEEDS: Final = Metric(
    Kind.GAUGE,
    "laurel.feed.failing",
    "s",
    "For how long what a service changes by itself has not been followed.",
    ("service",),
)
METRICS: Final = (EVENTS, GROUPS, QUEUE, SAGAS, OLDEST, LAG, FEEDS)
"""What the orchestrator measures."""


class Instrumentation:
    """Counts and gauges. Where telemetry is off it costs an attribute check."""

    def __init__(self, telemetry: Telemetry, sagas: SagaStore, domain_events: DomainEventStore) -> None:
        self._enabled = telemetry.enabled
        self._tracer = telemetry.tracer
        self._sagas = sagas
        self._backlog = Backlog(0, 0, 0.0)
        self._domain_events = domain_events
        self._lag_seconds = 0.0
        self._queued = 0
        meter = self._meter = telemetry.meter
        self._events = EVENTS.counter(meter)
        self._groups = GROUPS.histogram(meter)
        QUEUE.observed(meter, lambda: [Observation(self._queued)])
        SAGAS.observed(meter, self._observe_sagas)
        OLDEST.observed(meter, lambda: [Observation(self._backlog.oldest_seconds)])
        LAG.observed(meter, lambda: [Observation(self._lag_seconds)])

    def watch_feeds(self, failing_seconds: Callable[[], Mapping[Step, float]]) -> None:
        """Shows how long feeds are not followed."""
        FEEDS.observed(
            self._meter,
            lambda: [Observation(age, {"service": step.value}) for step, age in failing_seconds().items()],
        )

    async def run(self) -> None:
        """Looks at the open sagas from time to time, and raises the alarm while any is parked."""
        while True:
            try:
                self._backlog = await self._sagas.backlog()
                self._lag_seconds = (await self._domain_events.lag()).total_seconds()
            except Exception as error:
                if translate(error) is None:
                    raise
            if self._backlog.parked:
                _LOGGER.error(
                    "sagas are parked and wait for an operator", extra={"sagas": self._backlog.parked}
                )
            await asyncio.sleep(_INTERVAL_SECONDS)

    def arrived(self, queued: int) -> trace.Link | None:
        """An entry waits at the intake; what its group will be linked to."""
        self._queued = queued
        if not self._enabled:
            return None
        context = trace.get_current_span().get_span_context()
        return trace.Link(context) if context.is_valid else None

    def group(self, links: Sequence[trace.Link | None]) -> trace.Span:
        """The span of a group on its way, linked to the events in it."""
        if not self._enabled:
            return trace.INVALID_SPAN
        self._groups.record(len(links))
        return self._tracer.start_span("group", links=[link for link in links if link is not None])

    def answered(self, outcome: str) -> None:
        """An entry has its answer."""
        if self._enabled:
            self._events.add(1, {"outcome": outcome})

    def _observe_sagas(self) -> Iterable[Observation]:
        return [
            Observation(self._backlog.unfinished, {"state": "unfinished"}),
            Observation(self._backlog.parked, {"state": "parked"}),
        ]
