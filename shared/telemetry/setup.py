"""Tracer and meter of a process."""

from collections.abc import Callable

from msgspec import Struct
from opentelemetry.metrics import Meter, NoOpMeterProvider
from opentelemetry.trace import NoOpTracerProvider, Tracer

from shared.config import Settings

_NAME = "laurel"


class Telemetry(Struct, frozen=True):
    """What a process records with. Ask `enabled` before doing work that only a recording would use."""

    enabled: bool
    tracer: Tracer
    meter: Meter
    shutdown: Callable[[], None]
    """Sends what is left. Blocks, for at most a few seconds."""


def off() -> Telemetry:
    """Telemetry that records nothing."""
    return Telemetry(
        False, NoOpTracerProvider().get_tracer(_NAME), NoOpMeterProvider().get_meter(_NAME), lambda: None
    )


def setup(service: str, settings: Settings) -> Telemetry:
    """Telemetry of this replica: exported to `otlp_endpoint`, or off where there is none."""
    if settings.otlp_endpoint is None:
        return off()
    # Imported here: a process that exports nothing does not carry the SDK in memory.
    from shared.telemetry.export import exporting

    return exporting(
        service,
        instance=settings.instance,
        endpoint=settings.otlp_endpoint,
        sample_ratio=settings.trace_sample_ratio,
    )
