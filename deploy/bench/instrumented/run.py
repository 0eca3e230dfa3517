"""Starting a service with its doors to PostgreSQL and Valkey watched, or without its telemetry.

LAUREL_BENCH_CAPTURE names a directory: every statement and script call with its arguments is written there, to be sent
again by `deploy.bench.replay`. LAUREL_BENCH_UNTOLD takes the telemetry out of the call path altogether: the difference
to a service whose telemetry is off is what being able to turn it on costs.
"""

import os
import pickle
import runpy
import time
from pathlib import Path
from typing import Any, BinaryIO, Final

import asyncpg
from redis.asyncio.client import Pipeline

from shared.rpc.record import CallRecord, Recorder

CAPTURE: Final = "LAUREL_BENCH_CAPTURE"
UNTOLD: Final = "LAUREL_BENCH_UNTOLD"


def run(service: str) -> None:
    """Does what `python -m services.<service>` does."""
    if directory := os.environ.get(CAPTURE):
        capture((Path(directory) / f"{service}-{os.getpid()}.pickle").open("ab"))
    if UNTOLD in os.environ:
        silence()
    runpy.run_module(f"services.{service}", run_name="__main__")


def capture(file: BinaryIO) -> None:
    """From now on writes (instant, kind, text, arguments) of what every pool and pipeline sends."""
    make_pool, execute = asyncpg.Pool.__init__, Pipeline.execute

    def write(kind: str, text: str, arguments: Any) -> None:
        pickle.dump((time.monotonic(), kind, text, arguments), file)
        file.flush()

    def make_watched_pool(self: Any, *arguments: Any, **options: Any) -> None:
        init = options.pop("init")

        async def watch(connection: Any) -> None:
            await init(connection)
            connection.add_query_logger(lambda query: write("sql", query.query, query.args))

        make_pool(self, *arguments, **options, init=watch)

    async def execute_watched(self: Any, *arguments: Any, **options: Any) -> Any:
        write("valkey", "", [command for command, _ in self.command_stack])
        return await execute(self, *arguments, **options)

    asyncpg.Pool.__init__ = make_watched_pool  # type: ignore[method-assign]
    Pipeline.execute = execute_watched  # type: ignore[method-assign]


def silence() -> None:
    """From now on nothing is recorded of a call."""

    def trace(_self: Recorder, _call: CallRecord, _metadata: Any) -> None:
        return

    def end(_self: Recorder, *_: Any, **__: Any) -> None:
        return None

    Recorder.trace = trace  # type: ignore[assignment,method-assign]
    Recorder.end = end  # type: ignore[assignment,method-assign]
