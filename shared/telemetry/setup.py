"""Telemetry of a process: exported, or off."""

from shared.config import Settings
from shared.telemetry.instruments import Telemetry, off


def setup(service: str, settings: Settings) -> Telemetry:
    """Telemetry of this replica: exported to `otlp_endpoint`, read at `prometheus_listen`, or off without either.

    Raises `OSError` where that address cannot be served.
    """
    if settings.otlp_endpoint is None and settings.prometheus_listen is None:
        return off()
    # Imported here: a process that exports nothing does not carry the SDK in memory.
    from shared.telemetry.export import exporting

    return exporting(
        service,
        instance=settings.instance,
        endpoint=settings.otlp_endpoint,
        sample_ratio=settings.trace_sample_ratio,
        prometheus=settings.prometheus_listen,
    )
