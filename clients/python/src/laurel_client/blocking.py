"""Deadline, keys and typed errors around the calls of a blocking channel."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import grpc

from laurel_client.errors import LaurelError
from laurel_client.keys import with_keys


class _Details(NamedTuple):
    """What gRPC asks of the details of a call, whose own class has no constructor."""

    method: str
    timeout: float | None
    metadata: Any
    credentials: Any
    wait_for_ready: bool | None
    compression: Any


class _Call:
    """A call whose failure is a `LaurelError`; for the rest, the call itself."""

    def __init__(self, call: Any, request: Any) -> None:
        self._call = call
        self._request = request

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)

    def result(self, timeout: float | None = None) -> Any:
        """The response. Raises `LaurelError`, and the `grpc.FutureTimeoutError` of a wait that was too short."""
        try:
            return self._call.result(timeout)
        except grpc.RpcError as error:
            raise LaurelError.of_call(error, self._request) from None

    def exception(self, timeout: float | None = None) -> Exception | None:
        """The error once the call has ended; None when it succeeded."""
        error: Exception | None = self._call.exception(timeout)
        return LaurelError.of_call(error, self._request) if isinstance(error, grpc.RpcError) else error

    def __iter__(self) -> "_Call":
        return self

    def __next__(self) -> Any:
        try:
            return next(self._call)
        except grpc.RpcError as error:
            raise LaurelError.of_call(error, self._request) from None


class Interceptor(
    grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor, grpc.StreamStreamClientInterceptor
):
    """See the module. It stands above gRPC's own retries: what it fills in is the same in every attempt."""

    def __init__(self, timeout_seconds: float, metadata: Sequence[tuple[str, str]]) -> None:
        self._timeout_seconds = timeout_seconds
        self._metadata = metadata

    def intercept_unary_unary(
        self, continuation: Callable[[Any, Any], Any], details: Any, request: Any
    ) -> Any:
        """One request, one response, one deadline."""
        sent = with_keys(request)
        seconds = self._timeout_seconds if details.timeout is None else details.timeout
        return _Call(continuation(_with(details, seconds, self._metadata), sent), sent)

    def intercept_unary_stream(
        self, continuation: Callable[[Any, Any], Any], details: Any, request: Any
    ) -> Any:
        """A stream lasts as long as its caller wants."""
        return _Call(continuation(_with(details, details.timeout, self._metadata), with_keys(request)), None)

    def intercept_stream_stream(
        self, continuation: Callable[[Any, Any], Any], details: Any, requests: Iterator[Any]
    ) -> Any:
        """A stream lasts as long as its caller wants."""
        return _Call(
            continuation(_with(details, details.timeout, self._metadata), map(with_keys, requests)), None
        )


def _with(details: Any, seconds: float | None, metadata: Sequence[tuple[str, str]]) -> Any:
    return _Details(
        method=details.method,
        timeout=seconds,
        metadata=[*(details.metadata or ()), *metadata],
        credentials=details.credentials,
        wait_for_ready=details.wait_for_ready,
        compression=details.compression,
    )
