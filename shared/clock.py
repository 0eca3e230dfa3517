"""Where the wall clock is read. Domain code never does: `now` comes in with the request (RULES 1.2)."""

from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """A source of the present instant."""

    def now(self) -> datetime:
        """The present instant: UTC, aware, in microseconds."""
        ...


class SystemClock:
    """The clock of the host."""

    def now(self) -> datetime:
        """The present instant: UTC, aware, in microseconds."""
        return datetime.now(UTC)
