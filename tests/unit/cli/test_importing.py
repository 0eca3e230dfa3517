"""Lines of an import are read strictly, and no line can stop the others."""

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from laurel.orchestrator.v1 import event_pb2

from services.cli.importing import (
    BATCH_LINES,
    MAX_LINE_BYTES,
    ImportSummary,
    Refusal,
    parse_line,
    read_batches,
)

GOOD = b'{"metric": "a", "value": 1, "user": {"userId": "u"}, "occurTime": "2009-03-22T10:30:00+01:00"}'


def write(path: Path, *lines: bytes) -> Path:
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


def test_a_line_is_an_ingest_request_in_json() -> None:
    request = parse_line(1, GOOD, event_pb2.IngestEventRequest())
    assert isinstance(request, event_pb2.IngestEventRequest)
    assert request.user.user_id == "u"
    assert request.occur_time.ToJsonString() == "2009-03-22T09:30:00Z"


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"5",
        b"null",
        b"[1]",
        b'"text"',
        b'{"metrik": "a"}',
        b'{"metric": 5}',
        b'{"metric": "a", "metric": "b"}',
        b'{"value": "many"}',
        b'{"value": NaN}',
        b'{"value": 1e999}',
        b'{"metric": "\\ud800"}',
        b'{"occurTime": "2009-03-22"}',
        b'{"attributes": {"a": 1}}',
        b'{"metric": "a"} {"metric": "b"}',
        b"\xff",
        b"[" * 10_000,
        b'{"value": ' + b"1" * 5000 + b"}",
        b" " * MAX_LINE_BYTES + GOOD,
    ],
)
def test_a_malformed_line_is_refused_with_its_number_on_one_line(line: bytes) -> None:
    refusal = parse_line(17, line, event_pb2.IngestEventRequest())
    assert isinstance(refusal, Refusal)
    assert refusal.line_number == 17
    assert refusal.what
    assert "\n" not in refusal.what


@given(st.binary(max_size=80))
def test_no_line_breaks_the_reader(line: bytes) -> None:
    assert isinstance(
        parse_line(1, line, event_pb2.IngestEventRequest()), Refusal | event_pb2.IngestEventRequest
    )


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner) | st.dictionaries(st.sampled_from(["user", "metric", "userId", "x"]), inner)
        ),
        max_leaves=8,
    )
)
def test_no_document_breaks_the_reader(document: object) -> None:
    assert isinstance(
        parse_line(1, json.dumps(document).encode(), event_pb2.IngestEventRequest()),
        Refusal | event_pb2.IngestEventRequest,
    )


@pytest.mark.parametrize("compress", [False, True])
def test_lines_keep_their_numbers_among_blank_and_malformed_ones(tmp_path: Path, compress: bool) -> None:
    path = write(tmp_path / "events", GOOD, b"", b"{", GOOD, b"  ", GOOD)
    if compress:
        path.write_bytes(gzip.compress(path.read_bytes()))
    (batch,) = read_batches(path)
    assert batch.line_numbers == [1, 4, 6]
    assert [each.line_number for each in batch.malformed] == [3]
    assert batch.position == path.stat().st_size


def test_a_file_without_a_final_newline_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "events"
    path.write_bytes(GOOD + b"\n" + GOOD)
    assert [batch.line_numbers for batch in read_batches(path)] == [[1, 2]]


def test_a_batch_has_a_bounded_number_of_lines(tmp_path: Path) -> None:
    path = write(tmp_path / "events", *[GOOD] * (2 * BATCH_LINES + 1))
    assert [len(batch.events) for batch in read_batches(path)] == [BATCH_LINES, BATCH_LINES, 1]


def test_a_line_that_is_too_long_is_refused_and_the_next_one_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "events", GOOD, b"x" * (3 * MAX_LINE_BYTES), GOOD)
    batches = list(read_batches(path))
    assert [each.line_number for batch in batches for each in batch.malformed] == [2]
    assert [number for batch in batches for number in batch.line_numbers] == [1, 3]


def test_a_damaged_gzip_file_gives_what_can_be_read_and_says_where_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "events.gz"
    path.write_bytes(gzip.compress(b"\n".join([GOOD] * 5000))[:-20])
    batches = list(read_batches(path))
    (refusal,) = [each for batch in batches for each in batch.malformed]
    read = [number for batch in batches for number in batch.line_numbers]
    assert "damaged" in refusal.what
    assert read == list(range(1, refusal.line_number))


def test_an_empty_file_has_no_batches(tmp_path: Path) -> None:
    path = tmp_path / "events"
    path.touch()
    assert list(read_batches(path)) == []


def test_a_summary_has_a_rate_even_when_nothing_took_any_time() -> None:
    assert ImportSummary().events_per_second == 0.0
    assert ImportSummary(imported_count=3, refused_count=1, elapsed_seconds=2).events_per_second == 2.0
