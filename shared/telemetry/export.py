"""The OpenTelemetry SDK, set up to export over OTLP/gRPC, and to be read by Prometheus."""

from typing import Final

from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
from opentelemetry.trace import NoOpTracerProvider
from prometheus_client import CollectorRegistry, start_http_server

from shared.telemetry.instruments import Telemetry

_FLUSH_TIMEOUT_MS: Final = 2_000
_METRIC_INTERVAL_MS: Final = 15_000


def exporting(
    service: str, *, instance: str, endpoint: str | None, sample_ratio: float, prometheus: str | None
) -> Telemetry:
    """Telemetry that sends spans in batches and metrics every 15 seconds, on threads of its own; or lets Prometheus
    read metrics, or both. Raises `OSError` where the port for that is taken.
    """
    resource = Resource.create(
        {"service.name": f"laurel-{service}", "service.namespace": "laurel", "service.instance.id": instance}
    )
    insecure = endpoint is not None and not endpoint.startswith("https://")
    traces: TracerProvider | None = None
    readers: list[MetricReader] = []
    if endpoint is not None:
        traces = TracerProvider(resource=resource, sampler=ParentBasedTraceIdRatio(sample_ratio))
        traces.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint, insecure=insecure)))
        exporter = OTLPMetricExporter(endpoint=endpoint, insecure=insecure)
        readers.append(PeriodicExportingMetricReader(exporter, export_interval_millis=_METRIC_INTERVAL_MS))
    close = _nothing
    if prometheus is not None:
        # A registry of its own: the library's default one adds the interpreter's inner affairs.
        registry = CollectorRegistry()
        readers.append(PrometheusMetricReader(scope_info_enabled=False, registry=registry))
        host, _, port = prometheus.rpartition(":")
        server, _thread = start_http_server(int(port), host.strip("[]"), registry)
        close = server.shutdown
    metrics = MeterProvider(metric_readers=readers, resource=resource)

    def shutdown() -> None:
        close()
        if traces is not None:
            traces.force_flush(_FLUSH_TIMEOUT_MS)
            traces.shutdown()
        metrics.shutdown(timeout_millis=_FLUSH_TIMEOUT_MS)

    tracer = traces.get_tracer("laurel") if traces else NoOpTracerProvider().get_tracer("laurel")
    return Telemetry(True, tracer, metrics.get_meter("laurel"), shutdown)


def _nothing() -> None:
    pass
