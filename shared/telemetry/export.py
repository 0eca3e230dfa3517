"""The OpenTelemetry SDK, set up to export over OTLP/gRPC."""

from typing import Final

from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio

from shared.telemetry.instruments import Telemetry

_FLUSH_TIMEOUT_MS: Final = 2_000
_METRIC_INTERVAL_MS: Final = 15_000


def exporting(service: str, *, instance: str, endpoint: str, sample_ratio: float) -> Telemetry:
    """Telemetry that sends spans in batches and metrics every 15 seconds, on threads of its own."""
    resource = Resource.create(
        {"service.name": f"laurel-{service}", "service.namespace": "laurel", "service.instance.id": instance}
    )
    insecure = not endpoint.startswith("https://")
    traces = TracerProvider(resource=resource, sampler=ParentBasedTraceIdRatio(sample_ratio))
    traces.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint, insecure=insecure)))
    reader = PeriodicExportingMetricReader(
        OTLPMetricExporter(endpoint=endpoint, insecure=insecure), export_interval_millis=_METRIC_INTERVAL_MS
    )
    metrics = MeterProvider(metric_readers=[reader], resource=resource)

    def shutdown() -> None:
        traces.force_flush(_FLUSH_TIMEOUT_MS)
        traces.shutdown()
        metrics.shutdown(timeout_millis=_FLUSH_TIMEOUT_MS)

    return Telemetry(True, traces.get_tracer("laurel"), metrics.get_meter("laurel"), shutdown)
