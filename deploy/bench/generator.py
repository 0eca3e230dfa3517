"""The load generator: a process of its own, so that what is measured is not measured by itself.

It reads one load a line from standard input, as JSON, and answers with one line each. Requests are serialized before
they are due and answers are not parsed while the window lasts: what a caller costs on this machine is taken from what
is measured, so it is kept small. Its own CPU time is part of the report.
"""

import asyncio
import json
import sys
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Final

import grpc.aio
import uvloop
from laurel.orchestrator.v1 import orchestrator_service_pb2

from deploy.bench.empty import EMPTY_METHOD
from deploy.bench.events import batch, requests, sequence_of, streamed
from deploy.bench.load import Load, Measured, Sample, summarise
from deploy.bench.schedule import arrivals
from deploy.bench.statistics import percentile
from shared.rpc.channel import target_of
from shared.rpc.outgoing import AUTHORIZATION, BEARER

_SERVICE: Final = "/laurel.orchestrator.v1.OrchestratorService"
_METHODS: Final = {
    "empty": EMPTY_METHOD,
    "event": f"{_SERVICE}/IngestEvent",
    "batch": f"{_SERVICE}/IngestEvents",
    "stream": f"{_SERVICE}/StreamEvents",
}
_OPTIONS: Final = [
    ("grpc.service_config", json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})),
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),
    # A refusal is an answer to be counted, not to be repeated behind our back.
    ("grpc.enable_retries", 0),
    ("grpc.use_local_subchannel_pool", 1),
]

Send = Callable[[int, float], Coroutine[Any, Any, None]]


class Window:
    """One window while it runs."""

    def __init__(self, load: Load, channels: Sequence[grpc.aio.Channel]) -> None:
        self._load = load
        self._channels = channels
        self._turn = cycle(channels)
        self._shown = ((AUTHORIZATION, BEARER + load.key),) if load.key else None
        self._bodies = _bodies(load)
        self._samples: list[Sample] = []
        self._batches: list[tuple[Sample, bytes]] = []
        self._lags: list[float] = []
        self._began = 0.0

    async def run(self) -> Measured:
        """The load, and what came of it."""
        for channel in self._channels:
            await channel.channel_ready()
        self._began = time.perf_counter()
        if self._load.phases:
            await self._open()
        elif self._load.call == "stream":
            await self._stream()
        else:
            await asyncio.gather(*(self._caller() for _ in range(self._load.in_flight)))
        samples = [*self._samples, *(each for sample, body in self._batches for each in _items(sample, body))]
        return summarise(samples, self._spans(), 1_000 * percentile(sorted(self._lags), 0.99))

    def _now(self) -> float:
        return time.perf_counter() - self._began

    def _spans(self) -> list[tuple[float, float]]:
        spans, begin = [], self._load.warmup_seconds if not self._load.phases else 0.0
        for seconds in [phase.seconds for phase in self._load.phases] or [self._load.seconds]:
            spans.append((begin, begin + seconds))
            begin += seconds
        return spans

    async def _caller(self) -> None:
        """One caller of a closed loop."""
        begin = self._load.warmup_seconds
        end = begin + self._load.seconds
        while (now := self._now()) < end:
            body = next(self._bodies, None)
            if body is None:
                return
            await self._call(body, 0 if now >= begin else -1, now)

    async def _open(self) -> None:
        """Sends by the schedule; being late is no reason to leave anything out."""
        pending: set[asyncio.Task[None]] = set()
        for phase, due in arrivals(self._load.phases, self._load.mix.seed):
            # A timer may fire early, a request may not.
            while (wait := due - self._now()) > 0:  # noqa: ASYNC110
                await asyncio.sleep(wait)
            self._lags.append(self._now() - due)
            task = asyncio.create_task(self._call(next(self._bodies), phase, due))
            pending.add(task)
            task.add_done_callback(pending.discard)
            if len(self._lags) % 32 == 0:
                await asyncio.sleep(0)  # behind schedule or not, answers are taken in
        if pending:
            await asyncio.wait(pending)

    async def _call(self, body: bytes, phase: int, due: float) -> None:
        method: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = next(self._turn).unary_unary(
            _METHODS[self._load.call]
        )
        try:
            answer = await method(body, timeout=self._load.deadline_seconds, metadata=self._shown)
            code = "OK"
        except grpc.aio.AioRpcError as error:
            answer, code = b"", error.code().name
        is_batch = self._load.call == "batch"
        sample = Sample(phase, due, self._now(), code, self._load.batch_size if is_batch else 1)
        if is_batch and code == "OK":
            self._batches.append((sample, answer))
        else:
            self._samples.append(sample)

    async def _stream(self) -> None:
        """One stream with at most `in_flight` events that wait for their answers."""
        method: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = next(self._turn).stream_stream(
            _METHODS["stream"]
        )
        call = method(metadata=self._shown)
        due: dict[int, float] = {}
        free = asyncio.Semaphore(self._load.in_flight)
        begin = self._load.warmup_seconds
        end = begin + self._load.seconds

        async def write() -> None:
            for sequence, body in enumerate(self._bodies, 1):
                await free.acquire()
                if (now := self._now()) >= end:
                    break
                due[sequence] = now
                await call.write(streamed(sequence, body))
            await call.done_writing()

        writing = asyncio.create_task(write())
        answers: list[tuple[float, bytes]] = []
        while (answer := await call.read()) is not grpc.aio.EOF:
            assert isinstance(answer, bytes)
            answers.append((self._now(), answer))
            free.release()
        await writing
        for ended, answer in answers:
            response = orchestrator_service_pb2.StreamEventsResponse.FromString(answer)
            asked = due[sequence_of(answer)]
            phase = 0 if asked >= begin else -1
            self._samples.append(Sample(phase, asked, ended, _code(response.result), 1))


def _bodies(load: Load) -> Iterator[bytes]:
    """The serialized requests of a load, one after another."""
    if load.call == "empty":
        while True:
            yield b""
    events = requests(load.mix)
    if load.call != "batch":
        yield from events
    while items := list(islice(events, load.batch_size)):
        yield batch(items)


def _items(sample: Sample, body: bytes) -> Iterator[Sample]:
    """What a batch came to: one sample for each code among its results."""
    counts: dict[str, int] = {}
    for result in orchestrator_service_pb2.IngestEventsResponse.FromString(body).results:
        code = _code(result)
        counts[code] = counts.get(code, 0) + 1
    for code, count in counts.items():
        yield Sample(sample.phase, sample.due, sample.ended, code, count)


def _code(result: orchestrator_service_pb2.IngestEventResult) -> str:
    if result.HasField("event"):
        return "OK"
    return result.error.code


async def measure(load: Load) -> Measured:
    """One window over connections of its own."""
    async with AsyncExitStack() as opened:
        channels = [await opened.enter_async_context(_opened(load)) for _ in range(load.connections)]
        return await Window(load, channels).run()


def _opened(load: Load) -> grpc.aio.Channel:
    target = target_of(load.target)
    if not load.authority:
        return grpc.aio.insecure_channel(target, options=_OPTIONS)
    believed = grpc.ssl_channel_credentials(Path(load.authority).read_bytes())
    return grpc.aio.secure_channel(target, believed, options=_OPTIONS)


def main(lines: Sequence[str] | Any = sys.stdin) -> None:
    """Loads in, measurements out, until the input ends."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for line in lines:
            measured = runner.run(measure(Load.from_json(json.loads(line))))
            sys.stdout.write(json.dumps(measured.to_json()) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
