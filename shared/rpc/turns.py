"""The calling end of streams of calls: request after request, each with its response, over streams that stay open.

A request on a stream that is there costs both ends much less than an RPC of its own (docs/adr/0033). Each stream has
one call at a time: so responses need no numbers, and a time-out, an error or a connection that breaks concerns that
call alone, which is then as unknown as any other without an answer. The serving end is `shared.rpc.boundary.in_turn`.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import Message
from msgspec import Struct

from shared.errors import Unavailable, Unimplemented, from_rpc_error, late
from shared.rpc.channel import call
from shared.telemetry.propagation import inject

R = TypeVar("R")

_LEAST_STREAMS: Final = 6
"""With fewer, a call opens a new one. The channel opens them at replicas in turn, and calls take them in turn: so each
of one, two, three or six replicas has as many calls."""
_MOST_AT_REST: Final = 24
_MOST_SECONDS: Final = 30.0
"""Of a stream's life: then replicas that came meanwhile have their share, and connections that are to end can."""
_UNARY_SECONDS: Final = 30.0
"""For how long calls go one by one after a replica of an older release has said that it knows no streams of them."""


class _Stream(Struct, eq=False):
    call: Any
    """grpc's `StreamStreamCall`."""
    leaves: float
    """From when on it is not used again."""


class Turns(Generic[R]):
    """One method of a service. Requests are serialized."""

    def __init__(
        self,
        channel: grpc.aio.Channel,
        method: str,
        unary: "grpc.aio.UnaryUnaryMultiCallable[bytes, R]",
        request: type[Any],
        read: Callable[[bytes], R],
        *,
        timeout_seconds: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`method` is the streamed one, with requests of type `request` and responses for `read`; `unary` is the same
        call by call, for replicas of an older release.
        """
        self._open: Any = channel.stream_stream(method, response_deserializer=read)
        self._unary = unary
        self._request = request
        self._timeout_seconds = timeout_seconds
        self._monotonic = monotonic
        self._untraced = self._told({})
        self._at_rest: deque[_Stream] = deque()
        self._under_way = 0
        self._unary_until = float("-inf")

    async def call(self, body: bytes) -> R:
        """The response, or the `LaurelError` that the other service (or the way to it) answered with."""
        if self._monotonic() < self._unary_until:
            return await call(self._unary, body, timeout_seconds=self._timeout_seconds)
        context = inject(None)
        told = body + (self._told(dict(context)) if context else self._untraced)
        self._under_way += 1
        try:
            async with asyncio.timeout(self._timeout_seconds) as limit:
                return await self._answer(told, body)
        except TimeoutError:
            if not limit.expired():
                raise
            raise late(self._timeout_seconds) from None
        finally:
            self._under_way -= 1

    def close(self) -> None:
        """Ends the streams at rest; a channel does so for calls alone that somebody waits for."""
        while self._at_rest:
            self._at_rest.popleft().call.cancel()

    async def _answer(self, told: bytes, body: bytes) -> R:
        rested = self._rested()
        if rested is not None:
            try:
                return await self._turn(rested, told)
            except (_Ended, Unavailable):
                # It may have broken at rest. What is sent twice is answered once; and on a new stream grpc sends again
                # what it sends again of any call.
                pass
        try:
            return await self._turn(self._opened(), told)
        except Unimplemented:
            self._unary_until = self._monotonic() + _UNARY_SECONDS
            self.close()
        except _Ended:
            pass  # the other form says why
        return await call(self._unary, body, timeout_seconds=self._timeout_seconds)

    async def _turn(self, stream: _Stream, told: bytes) -> R:
        """One request and its response. Raises `LaurelError` or `_Ended`; then the stream is not used again."""
        answered = False
        try:
            await _send(stream, told)
            response = await stream.call.read()
            if response is grpc.aio.EOF:
                raise _Ended
            answered = True
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from None
        finally:
            if not answered:
                stream.call.cancel()
        if len(self._at_rest) < _MOST_AT_REST:
            self._at_rest.append(stream)
        else:
            stream.call.cancel()
        answer: R = response
        return answer

    def _rested(self) -> _Stream | None:
        """The stream that has been at rest for the longest; None where one has to be opened."""
        now = self._monotonic()
        while self._at_rest and (self._at_rest[0].call.done() or self._at_rest[0].leaves <= now):
            self._at_rest.popleft().call.cancel()
        if not self._at_rest or len(self._at_rest) + self._under_way <= _LEAST_STREAMS:
            return None
        return self._at_rest.popleft()

    def _opened(self) -> _Stream:
        return _Stream(self._open(), self._monotonic() + _MOST_SECONDS)

    def _told(self, context: dict[str, Any]) -> bytes:
        """What a request says of its call, serialized: behind its body it is one message with it."""
        message: Message = self._request(trace_context=context)
        message.timeout.FromNanoseconds(round(self._timeout_seconds * 1e9))  # type: ignore[attr-defined]
        return message.SerializeToString()


class _Ended(Exception):
    """A stream ended before the response, and grpc does not say why."""


async def _send(stream: _Stream, told: bytes) -> None:
    try:
        await stream.call.write(told)
    except asyncio.InvalidStateError:
        raise _Ended from None
    except grpc.aio.AioRpcError as error:
        # Where the stream ends while a message is sent, this is what grpc makes of it, in place of the status.
        if error.code() is grpc.StatusCode.INTERNAL:
            raise _Ended from None
        raise
