"""Structured logs: one JSON object a line, with the trace id, without personal data."""

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import Any, Final, TextIO

from shared.telemetry.propagation import current_trace_id

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


class JsonFormatter(logging.Formatter):
    """A record as JSON. What is passed as `extra` becomes fields; give codes, counts and ids of entries
    there, never users' names, attributes or values.
    """

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds"),
            "level": record.levelname,
            "service": self._service,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if trace_id := current_trace_id():
            line["trace_id"] = trace_id
        line.update((key, value) for key, value in vars(record).items() if key not in _STANDARD)
        if record.exc_info and record.exc_info[1] is not None:
            line["exception"] = describe_exception(record.exc_info[1])
        return json.dumps(line, default=str, ensure_ascii=False)


def describe_exception(error: BaseException) -> str:
    """The traceback with the first line of each exception's text: PostgreSQL puts rows into those that
    follow.
    """
    causes: list[str] = []
    current: BaseException | None = error
    while current is not None and len(causes) < 5:
        frames = "".join(traceback.format_tb(current.__traceback__))
        text = str(current).partition("\n")[0]
        causes.append(f"{frames}{type(current).__qualname__}: {text}")
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return "\ncaused by:\n".join(causes)


def configure_logging(service: str, level: str, stream: TextIO | None = None) -> None:
    """Write everything at `level` and above to `stream` (default: standard error) and nowhere else."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter(service))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # asyncio reports each slow callback and asyncpg nothing of use at DEBUG; their warnings matter.
    for chatty in ("asyncio", "grpc", "opentelemetry"):
        logging.getLogger(chatty).setLevel(max(logging.getLogger().level, logging.WARNING))
