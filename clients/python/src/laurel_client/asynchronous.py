"""Deadline, keys and typed errors around the calls of an asyncio channel."""

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import Any

import grpc.aio

from laurel_client.errors import LaurelError
from laurel_client.keys import with_keys

_Continuation = Callable[[Any, Any], Awaitable[Any]]


def interceptors(
    timeout_seconds: float, metadata: Sequence[tuple[str, str]]
) -> list[grpc.aio.ClientInterceptor]:
    """One for each kind of call: gRPC takes an object for one kind only."""
    return [_Unary(timeout_seconds, metadata), _Responses(metadata), _Stream(metadata)]


class _Unary(grpc.aio.UnaryUnaryClientInterceptor):
    """One request, one response, one deadline. It stands above gRPC's own retries: what it fills in is the same in
    every attempt.
    """

    def __init__(self, timeout_seconds: float, metadata: Sequence[tuple[str, str]]) -> None:
        self._timeout_seconds = timeout_seconds
        self._metadata = metadata

    async def intercept_unary_unary(
        self, continuation: _Continuation, client_call_details: Any, request: Any
    ) -> Any:
        sent = with_keys(request)
        details = _with(client_call_details, self._metadata)
        call = await continuation(_with_timeout(details, self._timeout_seconds), sent)
        try:
            await call
        except grpc.aio.AioRpcError as error:
            raise LaurelError.of_call(error, sent) from None
        return call


class _Responses(grpc.aio.UnaryStreamClientInterceptor):
    """A stream lasts as long as its caller wants."""

    def __init__(self, metadata: Sequence[tuple[str, str]]) -> None:
        self._metadata = metadata

    async def intercept_unary_stream(
        self, continuation: _Continuation, client_call_details: Any, request: Any
    ) -> Any:
        return _typed(await continuation(_with(client_call_details, self._metadata), with_keys(request)))


class _Stream(grpc.aio.StreamStreamClientInterceptor):
    """A stream lasts as long as its caller wants."""

    def __init__(self, metadata: Sequence[tuple[str, str]]) -> None:
        self._metadata = metadata

    async def intercept_stream_stream(
        self, continuation: _Continuation, client_call_details: Any, request_iterator: Any
    ) -> Any:
        return _typed(
            await continuation(_with(client_call_details, self._metadata), _filled(request_iterator))
        )


def _with(details: Any, metadata: Sequence[tuple[str, str]]) -> Any:
    if not metadata:
        return details
    shown = grpc.aio.Metadata(*(details.metadata or ()), *metadata)
    return details._replace(metadata=shown)


def _with_timeout(details: Any, seconds: float) -> Any:
    return details if details.timeout is not None else details._replace(timeout=seconds)


async def _filled(requests: AsyncIterable[Any] | Iterable[Any]) -> AsyncIterator[Any]:
    if isinstance(requests, AsyncIterable):
        async for request in requests:
            yield with_keys(request)
    else:
        for request in requests:
            yield with_keys(request)


async def _typed(responses: AsyncIterable[Any]) -> AsyncIterator[Any]:
    try:
        async for response in responses:
            yield response
    except grpc.aio.AioRpcError as error:
        raise LaurelError.of_call(error) from None
