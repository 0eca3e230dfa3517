"""What is recorded about each served call: a span, a duration, a log line."""

import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

import grpc
from opentelemetry import context as context_api
from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, StatusCode

from shared.telemetry import Telemetry
from shared.telemetry.metrics import Kind, Metric
from shared.telemetry.propagation import extract

_LOGGER: Final = logging.getLogger("laurel.access")

DURATION: Final = Metric(
    Kind.HISTOGRAM,
    "rpc.server.call.duration",
    "s",
    "How long calls took to serve.",
    ("rpc.method", "rpc.response.status_code"),
)
REFUSED: Final = Metric(
    Kind.COUNTER,
    "laurel.rpc.refused",
    "{call}",
    "Calls refused because too many were in progress.",
    ("rpc.method",),
)
METRICS: Final = (DURATION, REFUSED)
"""What every service measures."""

_BETWEEN_REFUSAL_LINES_SECONDS: Final = 1.0

# Unlisted codes are answers to the caller, and logged at INFO.
_LEVELS: Final[Mapping[grpc.StatusCode, int]] = {
    grpc.StatusCode.OK: logging.DEBUG,
    grpc.StatusCode.CANCELLED: logging.DEBUG,
    grpc.StatusCode.DEADLINE_EXCEEDED: logging.WARNING,
    grpc.StatusCode.UNAVAILABLE: logging.WARNING,
    grpc.StatusCode.INTERNAL: logging.ERROR,
    grpc.StatusCode.UNKNOWN: logging.ERROR,
    grpc.StatusCode.DATA_LOSS: logging.ERROR,
}


@dataclass(slots=True)
class CallRecord:
    """A call while it is served."""

    method: str
    started: float = field(default_factory=time.perf_counter)
    span: Span | None = None


class Recorder:
    """Keeps the records of one server's calls."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._tracer = telemetry.tracer
        self._enabled = telemetry.enabled
        self._duration = DURATION.histogram(telemetry.meter)
        self._refused = REFUSED.counter(telemetry.meter)
        self._untold = 0
        self._told = float("-inf")

    def trace(self, call: CallRecord, metadata: Iterable[tuple[str, str | bytes]] | None) -> None:
        """Begins the span of a call, in the trace that its caller told of; it is the current one in the call's task."""
        if not self._enabled:
            return
        name = call.method.removeprefix("/")
        call.span = self._tracer.start_span(
            name,
            context=extract(metadata),
            kind=SpanKind.SERVER,
            attributes={"rpc.system.name": "grpc", "rpc.method": name},
        )
        # Never detached: each call is served in a task, and so a context, of its own, or takes the place of the one
        # before it.
        context_api.attach(trace.set_span_in_context(call.span))

    def refused(self, method: str) -> None:
        """A call was refused because too many are in progress. The log has a line a second of all of them."""
        if self._enabled:
            self._refused.add(1, {"rpc.method": method.removeprefix("/")})
        self._untold += 1
        now = time.perf_counter()
        if now - self._told >= _BETWEEN_REFUSAL_LINES_SECONDS:
            _LOGGER.warning("calls are refused, too many are in progress", extra={"calls": self._untold})
            self._untold, self._told = 0, now

    def end(
        self,
        call: CallRecord,
        code: grpc.StatusCode,
        reason: str = "",
        error: BaseException | None = None,
        incident: str = "",
    ) -> None:
        """The call has ended. Of a defect, `error` gives the traceback and `incident` what the caller was
        told.
        """
        seconds = time.perf_counter() - call.started
        if call.span is not None:
            attributes = {"rpc.method": call.method.removeprefix("/"), "rpc.response.status_code": code.name}
            self._duration.record(seconds, attributes)
            call.span.set_attribute("rpc.response.status_code", code.name)
            if code is not grpc.StatusCode.OK:
                call.span.set_status(StatusCode.ERROR, reason)
            call.span.end()
        level = _LEVELS.get(code, logging.INFO)
        if _LOGGER.isEnabledFor(level):
            fields = {"method": call.method, "code": code.name, "duration_ms": round(seconds * 1_000, 3)}
            fields.update((key, text) for key, text in (("reason", reason), ("incident", incident)) if text)
            _LOGGER.log(level, "rpc", extra=fields, exc_info=error)
