"""Traces, metrics and logs (DESIGN 7). Off, and nearly free, until an OTLP endpoint is named."""

from shared.telemetry.instruments import Telemetry, off
from shared.telemetry.setup import setup

__all__ = ["Telemetry", "off", "setup"]
