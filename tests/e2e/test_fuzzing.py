"""Every field of every request, with values that no sensible caller sends: a typed answer, in time, and nobody dies."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from typing import Any

import grpc
import grpc.aio
import pytest

from tests.fixtures.fuzzing import Call, calls, methods
from tests.fixtures.system import System

IN_SHORT = 9
"""One call in so many is made where not all are asked for."""
AT_ONCE = 32
PATIENCE_SECONDS = 30.0
STREAM_SECONDS = 0.2

REFUSED_OR_DONE = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.OUT_OF_RANGE,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}
SERVICE_OF = ("orchestrator", "streak", "achievement", "points", "leaderboard", "notification")


def channel_of(system: System, call: Call) -> grpc.aio.Channel:
    package = call.method.containing_service.file.package.split(".")[1]
    # The definitions of one service are spoken of as those of any.
    return system.channels[SERVICE_OF.index(package) if package in SERVICE_OF else 1]


async def answer(system: System, call: Call) -> grpc.StatusCode:
    """What a call is answered with; of a stream that goes on, that it goes on."""
    kind = "stream" if call.method.client_streaming else "unary"
    kind += "_stream" if call.method.server_streaming else "_unary"
    method: Any = getattr(channel_of(system, call), kind)(
        call.path, request_serializer=None, response_deserializer=None
    )
    is_watch = call.method.server_streaming and not call.method.client_streaming
    seconds = STREAM_SECONDS if is_watch else PATIENCE_SECONDS
    if call.method.client_streaming:
        made = method(timeout=seconds)
        with suppress(
            grpc.aio.AioRpcError, asyncio.InvalidStateError
        ):  # the server may have ended it already
            await made.write(call.request)
            await made.done_writing()
    else:
        made = method(call.request, timeout=seconds)
    if call.method.server_streaming:
        with suppress(grpc.aio.AioRpcError):
            async for _ in made:
                pass
    code: grpc.StatusCode = await made.code()
    return grpc.StatusCode.OK if is_watch and code is grpc.StatusCode.DEADLINE_EXCEEDED else code


async def fuzzed(system: System, chosen: Sequence[Call]) -> list[str]:
    """The calls that were answered with something else than done or refused."""
    free = asyncio.Semaphore(AT_ONCE)
    # A second import is refused before its first message is read, which a client may take for a broken stream.
    one_import = asyncio.Lock()

    async def one(call: Call) -> str:
        async with free, one_import if call.method.name == "ImportEvents" else nullcontext():
            code = await answer(system, call)
        return (
            "" if code in REFUSED_OR_DONE else f"{call.path} {call.field} {call.request[:80]!r}: {code.name}"
        )

    return [said for said in await asyncio.gather(*map(one, chosen)) if said]


async def test_no_field_of_any_request_brings_a_service_into_trouble(
    system: System, request: pytest.FixtureRequest
) -> None:
    chosen = list(calls(methods()))
    if not request.config.getoption("--fuzz-all"):
        chosen = chosen[::IN_SHORT]
    pids = {each.name: each.pid for each in system.stack.status()}
    assert await fuzzed(system, chosen) == []
    assert {each.name: each.pid for each in system.stack.status()} == pids
    assert len(Counter(call.path for call in chosen)) > 90
