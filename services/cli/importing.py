"""Importing a file of history: NDJSON of ingest requests, plain or gzip, in chronological order."""

import gzip
import io
import itertools
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import BinaryIO, Final, TypeAlias, TypeVar, cast

from google.protobuf import json_format
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from laurel.common.v1 import error_pb2
from laurel.orchestrator.v1 import event_pb2, orchestrator_service_pb2
from laurel.orchestrator.v1.orchestrator_service_pb2_grpc import OrchestratorServiceStub

BATCH_LINES: Final = 500
BATCH_BYTES: Final = 2 * 1024 * 1024
MAX_LINE_BYTES: Final = 256 * 1024
BATCHES_UNDER_WAY: Final = 4
"""Enough to keep the server busy while this side reads on; no more is ever held in memory."""

M = TypeVar("M", bound=Message)

OnProgress: TypeAlias = "Callable[[Progress], None]"
OnRefusal: TypeAlias = "Callable[[Refusal], None]"

_GZIP_MAGIC: Final = b"\x1f\x8b"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A line that was not imported. Lines count from 1."""

    line_number: int
    what: str


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an import has come. `position` and `size` are bytes of the file as it is stored."""

    position: int
    size: int
    event_count: int


@dataclass
class ImportSummary:
    """What became of the lines of a file."""

    imported_count: int = 0
    replayed_count: int = 0
    refused_count: int = 0
    elapsed_seconds: float = 0.0
    watermark_time: Timestamp | None = None

    @property
    def event_count(self) -> int:
        """All lines that were not blank."""
        return self.imported_count + self.replayed_count + self.refused_count

    @property
    def events_per_second(self) -> float:
        return self.event_count / self.elapsed_seconds if self.elapsed_seconds else 0.0


@dataclass
class Batch:
    """Lines that travel together, with what could not be read among them."""

    events: list[event_pb2.IngestEventRequest] = field(default_factory=list)
    line_numbers: list[int] = field(default_factory=list)
    malformed: list[Refusal] = field(default_factory=list)
    byte_count: int = 0
    position: int = 0

    @property
    def is_full(self) -> bool:
        lines = len(self.events) + len(self.malformed)
        return lines >= BATCH_LINES or self.byte_count >= BATCH_BYTES


class ImportEndedEarly(Exception):
    """The server closed the stream before it had answered every batch."""

    def __init__(self) -> None:
        super().__init__("the server ended the import early; run it again: nothing is imported twice")


def import_file(
    orchestrator: OrchestratorServiceStub,
    path: Path,
    *,
    on_progress: OnProgress = lambda _: None,
    on_refusal: OnRefusal = lambda _: None,
) -> ImportSummary:
    """Import a file through one stream. Refused lines do not stop it. Safe to run again: what is there
    already is not imported twice. Raises `grpc.RpcError`, `OSError` and `ImportEndedEarly`.
    """
    started = time.monotonic()
    summary = ImportSummary()
    size = path.stat().st_size
    outbox: SimpleQueue[orchestrator_service_pb2.ImportEventsRequest | None] = SimpleQueue()
    answers = orchestrator.ImportEvents(iter(outbox.get, None))
    under_way: deque[Batch] = deque()

    def settle_oldest() -> None:
        batch = under_way.popleft()
        answer = next(answers, None)
        if answer is None:
            raise ImportEndedEarly
        _settle(batch, answer, summary, on_refusal)
        on_progress(Progress(batch.position, size, summary.event_count))

    try:
        for batch in read_batches(path):
            for refusal in batch.malformed:
                summary.refused_count += 1
                on_refusal(refusal)
            if not batch.events:
                continue
            outbox.put(orchestrator_service_pb2.ImportEventsRequest(events=batch.events))
            under_way.append(batch)
            if len(under_way) >= BATCHES_UNDER_WAY:
                settle_oldest()
        outbox.put(None)
        while under_way:
            settle_oldest()
        # The status of the call comes after its last answer.
        next(answers, None)
    finally:
        outbox.put(None)
        answers.cancel()
    summary.elapsed_seconds = time.monotonic() - started
    return summary


def read_batches(path: Path) -> Iterator[Batch]:
    """The lines of a file in batches; the last may be without events. Raises `OSError`."""
    batch = Batch()
    for number, content, position in read_lines(path):
        batch.position = position
        batch.byte_count += 0 if isinstance(content, Refusal) else len(content)
        parsed = (
            content
            if isinstance(content, Refusal)
            else parse_line(number, content, event_pb2.IngestEventRequest())
        )
        if isinstance(parsed, Refusal):
            batch.malformed.append(parsed)
        else:
            batch.events.append(parsed)
            batch.line_numbers.append(number)
        if batch.is_full:
            yield batch
            batch = Batch()
    if batch.events or batch.malformed:
        yield batch


def parse_line(number: int, content: bytes, empty: M) -> M | Refusal:
    """The message on a line, strictly: unknown fields and wrong types are refused. `empty` is one of its type."""
    if len(content) > MAX_LINE_BYTES:
        return Refusal(number, f"longer than {MAX_LINE_BYTES:,} bytes")
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        return Refusal(number, f"not UTF-8: {error.reason} at byte {error.start + 1}")
    try:
        return json_format.Parse(text, empty)
    except json_format.ParseError as error:
        return Refusal(number, _first_line(str(error)))


def read_lines(path: Path) -> Iterator[tuple[int, bytes | Refusal, int]]:
    """Number, content and end position of every line that is not blank.

    A damaged gzip file ends with a refusal; what could be read before it counts.
    """
    with ExitStack() as stack:
        raw = stack.enter_context(path.open("rb"))
        lines = stack.enter_context(_decompressed(raw))
        for number in itertools.count(1):
            try:
                content = _read_line(lines)
            except (EOFError, gzip.BadGzipFile, zlib.error) as error:
                yield number, Refusal(number, f"the file is damaged from here on: {error}"), raw.tell()
                return
            if not content:
                return
            if content.strip():
                yield number, content, raw.tell()


def _read_line(lines: BinaryIO) -> bytes:
    """One line; of a line that is too long, only so much as shows that it is."""
    content = lines.readline(MAX_LINE_BYTES + 1)
    rest = content
    while rest and not rest.endswith(b"\n"):
        rest = lines.readline(MAX_LINE_BYTES)
    return content


def _decompressed(raw: BinaryIO) -> BinaryIO:
    start = raw.read(len(_GZIP_MAGIC))
    raw.seek(0)
    if start != _GZIP_MAGIC:
        return raw
    return cast(BinaryIO, io.BufferedReader(gzip.GzipFile(fileobj=raw)))


def _settle(
    batch: Batch,
    answer: orchestrator_service_pb2.ImportEventsResponse,
    summary: ImportSummary,
    on_refusal: OnRefusal,
) -> None:
    summary.imported_count += answer.imported_count
    summary.replayed_count += answer.replayed_count
    summary.refused_count += len(answer.errors)
    if answer.HasField("watermark_time"):
        summary.watermark_time = answer.watermark_time
    for each in answer.errors:
        on_refusal(Refusal(batch.line_numbers[each.index], describe_item_error(each.error)))


def describe_item_error(error: error_pb2.Error) -> str:
    """The error of one item of a batch, on one line."""
    fields = "; ".join(f"{each.field}: {each.description}" for each in error.violations)
    return f"{error.code} {error.reason}: {fields or error.message}"


def _first_line(text: str) -> str:
    return text.splitlines()[0] if text else "not JSON"
