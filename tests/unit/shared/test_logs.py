"""Log lines."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from shared.telemetry.logs import configure_logging


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers.clear()  # so that those of pytest are put aside, not closed
    written = io.StringIO()
    configure_logging("streak", "INFO", written)
    yield written
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_one_json_object_with_its_fields(stream: io.StringIO) -> None:
    logging.getLogger("a").info("two\nlines %d", 2, extra={"count": 3})
    (line,) = lines(stream)
    assert line["message"] == "two\nlines 2"
    assert (line["service"], line["level"], line["logger"], line["count"]) == ("streak", "INFO", "a", 3)


def test_a_traceback_shows_where_but_not_the_row_that_postgresql_quotes(stream: io.StringIO) -> None:
    refusal = "duplicate key\nDETAIL: Key (user_id)=(alice) already exists."
    try:
        try:
            raise ValueError(refusal)
        except ValueError as error:
            raise RuntimeError("failed") from error
    except RuntimeError:
        logging.getLogger("a").exception("work failed")
    (line,) = lines(stream)
    assert "RuntimeError: failed" in line["exception"]
    assert "ValueError: duplicate key" in line["exception"]
    assert "test_logs.py" in line["exception"]
    assert "alice" not in line["exception"]


def test_what_is_below_the_level_is_not_written(stream: io.StringIO) -> None:
    logging.getLogger("a").debug("no")
    assert lines(stream) == []
