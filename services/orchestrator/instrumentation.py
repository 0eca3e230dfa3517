"""What the orchestrator measures of itself (DESIGN 7): events, groups, queues, and sagas that are open."""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from typing import Final

from opentelemetry import trace
from opentelemetry.metrics import CallbackOptions, Observation

from services.orchestrator.store.domain_events import DomainEventStore
from services.orchestrator.store.sagas import Backlog, SagaStore
from shared.postgres.errors import translate
from shared.telemetry import Telemetry

_LOGGER: Final = logging.getLogger(__name__)
_INTERVAL_SECONDS: Final = 10.0


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
        meter = telemetry.meter
        self._events = meter.create_counter(
            "laurel.events", unit="{event}", description="Entries answered, by outcome"
        )
        self._groups = meter.create_histogram(
            "laurel.group.size", unit="{event}", description="Entries recorded together"
        )
        meter.create_observable_gauge("laurel.queue.depth", [self._observe_queue], unit="{event}")
        meter.create_observable_gauge("laurel.sagas", [self._observe_sagas], unit="{saga}")
        meter.create_observable_gauge("laurel.sagas.oldest_age", [self._observe_age], unit="s")
        meter.create_observable_gauge(
            "laurel.domain_events.lag",
            [self._observe_lag],
            unit="s",
            description="For how long domain events have been held back by older transactions",
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

    def _observe_queue(self, _: CallbackOptions) -> Iterable[Observation]:
        return [Observation(self._queued)]

    def _observe_sagas(self, _: CallbackOptions) -> Iterable[Observation]:
        return [
            Observation(self._backlog.unfinished, {"state": "unfinished"}),
            Observation(self._backlog.parked, {"state": "parked"}),
        ]

    def _observe_lag(self, _: CallbackOptions) -> Iterable[Observation]:
        return [Observation(self._lag_seconds)]

    def _observe_age(self, _: CallbackOptions) -> Iterable[Observation]:
        return [Observation(self._backlog.oldest_seconds)]
