"""Every field of every request, with values that no sensible caller sends: a typed answer, in time, and nobody dies."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from typing import Any

import grpc
import grpc.aio
import pytest

from tests.fixtures.fuzzing import (
    PARTICIPANTS,
    SERVICES,
    Call,
    calls,
    methods,
    methods_between_services,
    server_of,
)
from tests.fixtures.system import System

IN_SHORT = 9
"""One call in so many is made where not all are asked for."""
AT_ONCE = 32
PATIENCE_SECONDS = 30.0
STREAM_SECONDS = 0.2
LONG = {"DeleteUser", "MergeUsers"}
"""They take as long as there is something of the user, and look through all feeds: on a system that other tests have
filled, with 32 calls at once, that may be longer than a caller waits. They go on by themselves, and who asks again with
the same key gets the answer (RULES 7.8).
"""
ASKED_AGAIN = 5
NOT_YET = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}

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


async def answer(system: System, call: Call, service: str) -> grpc.StatusCode:
    """What a call is answered with in the end; of a stream that goes on, that it goes on."""
    code = await answer_at_once(system, call, service)
    for _ in range(ASKED_AGAIN if call.method.name in LONG else 0):
        if code not in NOT_YET:
            break
        code = await answer_at_once(system, call, service)
    return code


async def answer_at_once(system: System, call: Call, service: str) -> grpc.StatusCode:
    """What one attempt is answered with."""
    channel = system.channels[SERVICES.index(service)]
    kind = "stream" if call.method.client_streaming else "unary"
    kind += "_stream" if call.method.server_streaming else "_unary"
    method: Any = getattr(channel, kind)(call.path, request_serializer=None, response_deserializer=None)
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


async def fuzzed(system: System, chosen: Sequence[Call], service: str = "") -> list[str]:
    """The calls that were answered with something else than done or refused."""
    free = asyncio.Semaphore(AT_ONCE)
    # A second import is refused before its first message is read, which a client may take for a broken stream.
    one_import = asyncio.Lock()

    async def one(call: Call) -> str:
        async with free, one_import if call.method.name == "ImportEvents" else nullcontext():
            code = await answer(system, call, service or server_of(call.method))
        # Whoever says how long the answer may take is told when it takes longer.
        too_late = call.field.startswith("timeout.") and code is grpc.StatusCode.DEADLINE_EXCEEDED
        is_expected = code in REFUSED_OR_DONE or too_late
        return "" if is_expected else f"{call.path} {call.field} {call.request[:80]!r}: {code.name}"

    return [said for said in await asyncio.gather(*map(one, chosen)) if said]


def chosen_of(every: Sequence[Call], request: pytest.FixtureRequest) -> Sequence[Call]:
    return every if request.config.getoption("--fuzz-all") else every[::IN_SHORT]


@pytest.mark.timeout(1_200)
async def test_no_field_of_any_request_brings_a_service_into_trouble(
    system: System, request: pytest.FixtureRequest
) -> None:
    chosen = chosen_of(list(calls(methods())), request)
    pids = {each.name: each.pid for each in system.stack.status()}
    assert await fuzzed(system, chosen) == []
    assert {each.name: each.pid for each in system.stack.status()} == pids
    assert len(Counter(call.path for call in chosen)) > 90


def said_between_services(service: str) -> list[Call]:
    """What other services say to one."""
    said = list(calls(methods_between_services(f"laurel.{service}.v1")))
    if service != "orchestrator":
        every = methods_between_services("laurel.participant.v1")
        all_of_it = service in PARTICIPANTS
        said += calls([each for each in every if all_of_it or each.containing_service.name == "TraceService"])
    return said


@pytest.mark.timeout(1_200)
@pytest.mark.parametrize("service", SERVICES)
async def test_no_field_of_what_services_say_to_one_another_brings_one_into_trouble(
    system: System, service: str, request: pytest.FixtureRequest
) -> None:
    chosen = chosen_of(said_between_services(service), request)
    pids = {each.name: each.pid for each in system.stack.status()}
    assert await fuzzed(system, chosen, service) == []
    assert {each.name: each.pid for each in system.stack.status()} == pids
    assert chosen
