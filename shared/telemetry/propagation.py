"""W3C trace context in gRPC metadata."""

from collections.abc import Iterable
from typing import Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

_PROPAGATOR: Final = TraceContextTextMapPropagator()

Metadata = tuple[tuple[str, str | bytes], ...]


def extract(metadata: Iterable[tuple[str, str | bytes]] | None) -> Context:
    """The trace context that a caller sent; an empty one where it sent none or a malformed one."""
    carrier = {key: value for key, value in metadata or () if isinstance(value, str)}
    return _PROPAGATOR.extract(carrier, context=Context())


def inject(metadata: Iterable[tuple[str, str | bytes]] | None) -> Metadata:
    """The metadata, and with it the current trace context."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    return (*(metadata or ()), *carrier.items())


def current_trace_id() -> str:
    """The current trace id in hex; "" outside of a trace."""
    context = trace.get_current_span().get_span_context()
    return trace.format_trace_id(context.trace_id) if context.is_valid else ""
