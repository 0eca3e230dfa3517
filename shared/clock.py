"""Where the wall clock is read. Domain code never does: `now` comes in with the request (RULES 1.2)."""

import logging
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Protocol

from shared.config import ConfigurationError

TEST_CLOCK_VARIABLE: Final = "LAUREL_TEST_CLOCK_FILE"
"""For tests alone: a file that says by how many seconds Laurel's processes are ahead of the host's clock, so that they
live on a day that a test chose. The servers beside them keep the host's time, so that day lies in the past.
"""

_LOGGER: Final = logging.getLogger(__name__)


class Clock(Protocol):
    """A source of the present instant."""

    def now(self) -> datetime:
        """The present instant: UTC, aware, in microseconds."""
        ...


class SystemClock:
    """The clock of the host. Raises `ConfigurationError` where a test set it and its file cannot be read."""

    def __init__(self) -> None:
        name = os.environ.get(TEST_CLOCK_VARIABLE)
        self._file = None if name is None else Path(name)
        try:
            ahead = self._ahead()
        except (OSError, ValueError, OverflowError) as error:
            raise ConfigurationError([f"{TEST_CLOCK_VARIABLE}: {error}"]) from error
        if self._file is not None:
            _LOGGER.warning("the clock is set by a test", extra={"ahead_seconds": ahead.total_seconds()})

    def now(self) -> datetime:
        """The present instant: UTC, aware, in microseconds."""
        return datetime.now(UTC) + self._ahead()

    def _ahead(self) -> timedelta:
        return timedelta() if self._file is None else timedelta(seconds=float(self._file.read_text()))
