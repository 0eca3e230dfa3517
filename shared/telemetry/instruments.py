"""What a process records with."""

from collections.abc import Callable

from msgspec import Struct
from opentelemetry.metrics import Meter, NoOpMeterProvider
from opentelemetry.trace import NoOpTracerProvider, Tracer

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
