"""The one interceptor around every call: admission, credentials, deadline, errors, telemetry, access log (DESIGN 6, 7).

What is here is in no servicer. Handlers are coroutines (one response) or async generators (many); they raise
`LaurelError`, or let the failure of a dependency pass, which is translated here.

The request is parsed inside the boundary, after admission: a refused call costs no parsing, and one that
cannot be parsed is the caller's error and not ours. Health and reflection pass by: they answer under
overload.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from types import MappingProxyType
from typing import Any, Final

import grpc
import grpc.aio
from google.protobuf.message import DecodeError, Message
from msgspec import Struct

from shared.errors import (
    DETAILS_KEY,
    DeadlineExceeded,
    Internal,
    InvalidArgument,
    LaurelError,
    ResourceExhausted,
    Unavailable,
    Unimplemented,
    from_rpc_error,
    late,
    to_status,
)
from shared.random_ids import new_id
from shared.rpc import deadline, tenants
from shared.rpc.access import Caller, Gate
from shared.rpc.record import CallRecord, Recorder
from shared.tenants import CURRENT_TENANT

Translator = Callable[[BaseException], LaurelError | None]
"""What the failure of a dependency means to a caller; None: not of this dependency."""

_EXEMPT: Final = ("/grpc.health.", "/grpc.reflection.")
_RETRY_AFTER_OVERLOAD_SECONDS: Final = 0.2
_IN_TURN: Final = "laurel_in_turn"


def in_turn(behaviour: Callable[..., Awaitable[Any]]) -> Any:
    """A method of which a stream is call after call: a response to each request, before the next is read.

    It is written as one with a single response. Its requests have a `timeout` and a `trace_context`
    (laurel.participant.v1.ApplyEntriesInTurnRequest); `shared.rpc.turns` is its caller's end.
    """
    setattr(behaviour, _IN_TURN, True)
    return behaviour


class Limits(Struct, frozen=True):
    """What one replica takes on."""

    max_concurrent_rpcs: int
    max_held_bytes: int
    """Of requests that are held at once, as they came; one alone may have more."""
    default_deadline_seconds: float
    """For calls with one response and no deadline; a stream lasts as long as its caller wants."""


class Boundary(grpc.aio.ServerInterceptor):
    """See the module. One instance serves one server."""

    def __init__(
        self,
        *,
        domain: str,
        gate: Gate,
        limits: Limits,
        translators: Sequence[Translator],
        recorder: Recorder,
    ) -> None:
        self._domain = domain
        self._gate = gate
        self._limits = limits
        self._translators = tuple(translators)
        self._recorder = recorder
        self._too_many = _refusal(f"{limits.max_concurrent_rpcs} calls are in progress already", domain)
        self._too_much = _refusal(f"{limits.max_held_bytes} bytes of requests are held already", domain)
        self._in_flight = 0
        self._held_bytes = 0
        self._wrapped: dict[str, tuple[object, Any]] = {}
        self._between_turns: set[asyncio.Task[Any]] = set()
        self._ending = False

    def end_turns(self) -> None:
        """No new calls will come: streams of calls end, each when the call that is under way is answered."""
        self._ending = True
        for task in self._between_turns:
            task.cancel()

    @property
    def in_flight(self) -> int:
        """The number of admitted calls that are in progress."""
        return self._in_flight

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """The method's handler inside the boundary; wrapped at its first call, then remembered."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or method.startswith(_EXEMPT):
            return handler
        known = self._wrapped.get(method)
        if known is None or known[0] is not handler:
            known = self._wrapped[method] = (handler, self._wrap(method, handler))
        return known[1]

    def _wrap(self, method: str, handler: Any) -> Any:
        behaviour = (
            handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
        )
        is_stream = handler.request_streaming

        async def serve_one(raw: Any, context: Any) -> Any:
            size = 0 if is_stream else len(raw)
            await self._admit(method, size, context)
            call = self._begin(method, context)
            self._held_bytes += size
            try:
                caller, request = await self._asked(method, handler, raw, context, is_stream=is_stream)
                response = await self._within_deadline(behaviour, request, context)
                if caller.tenant:
                    response = tenants.reply_of(method, response, caller.tenant)
            except BaseException as error:
                raw = request = None
                await self._fail(call, error, context)
                raise
            finally:
                self._held_bytes -= size
            self._end(call, grpc.StatusCode.OK)
            return response

        async def serve_many(raw: Any, context: Any) -> AsyncIterator[Any]:
            size = 0 if is_stream else len(raw)
            await self._admit(method, size, context)
            call = self._begin(method, context)
            self._held_bytes += size
            try:
                caller, request = await self._asked(method, handler, raw, context, is_stream=is_stream)
                deadline.begin(context.time_remaining())
                async with aclosing(behaviour(request, context)) as responses:
                    async for response in responses:
                        if caller.tenant:
                            response = tenants.reply_of(method, response, caller.tenant)
                        yield response
            except BaseException as error:
                raw = request = None
                await self._fail(call, error, context)
                raise
            finally:
                self._held_bytes -= size
            self._end(call, grpc.StatusCode.OK)

        async def serve_turns(_requests: Any, context: Any) -> None:
            # Who may not call keeps no stream at rest either.
            try:
                await self._gate.admit(method, context)
            except Exception as error:
                await self._fail(self._begin(method, context), error, context)
                raise
            while (raw := await self._next_turn(context)) is not None:
                await self._admit(method, len(raw), context)
                response = await serve_turn(raw, context)
                raw = None
                await context.write(response)
                response = None

        async def serve_turn(raw: Any, context: Any) -> Any:
            size = len(raw)
            call = self._begin(method, None)
            self._held_bytes += size
            try:
                # What is shown with the stream may have been taken back since it began.
                caller, request = await self._asked(method, handler, raw, context, is_stream=False)
                self._recorder.trace(call, request.trace_context.items())
                response = await self._within_own_deadline(behaviour, request, context)
                if caller.tenant:
                    response = tenants.reply_of(method, response, caller.tenant)
            except BaseException as error:
                raw = request = None
                await self._fail(call, error, context)
                raise
            finally:
                self._held_bytes -= size
            self._end(call, grpc.StatusCode.OK)
            return response

        if hasattr(behaviour, _IN_TURN):
            return _method_handler(handler, serve_turns)
        return _method_handler(handler, serve_many if handler.response_streaming else serve_one)

    async def _next_turn(self, context: Any) -> Any:
        """The next request of a stream of calls. None where there is none, or where the server is about to stop. Such a
        stream counts only while it has a request: at rest it holds nothing and keeps nobody from stopping.
        """
        task = asyncio.current_task()
        assert task is not None  # grpc serves each stream in one
        if self._ending:
            return None
        self._between_turns.add(task)
        try:
            raw = await context.read()
        except asyncio.CancelledError:
            if not self._ending:
                raise
            task.uncancel()
            return None
        finally:
            self._between_turns.discard(task)
        return None if raw is grpc.aio.EOF else raw

    async def _admit(self, method: str, size: int, context: Any) -> None:
        """Ends a call that is one too many, or whose request is too much beside those that are held."""
        if self._in_flight >= self._limits.max_concurrent_rpcs:
            await self._refuse(method, context, self._too_many)
        if self._is_too_much(size):
            await self._refuse(method, context, self._too_much)

    def _is_too_much(self, size: int) -> bool:
        return bool(self._held_bytes) and self._held_bytes + size > self._limits.max_held_bytes

    async def _parse_each(
        self, deserialize: Callable[[bytes], Any], stream: AsyncIterator[bytes]
    ) -> AsyncIterator[Any]:
        """Each message of a stream is held until the next is asked for."""
        async for raw in stream:
            size = len(raw)
            if self._is_too_much(size):
                raise ResourceExhausted(
                    self._too_much[0], reason="OVERLOADED", retry_after_seconds=_RETRY_AFTER_OVERLOAD_SECONDS
                )
            self._held_bytes += size
            try:
                yield _parse(deserialize, raw)
            finally:
                self._held_bytes -= size

    async def _refuse(self, method: str, context: Any, refusal: tuple[str, bytes]) -> None:
        """Ends a call that is too much. It gets an answer that is ready, and no log line of its own: what refusing
        costs is taken from those who were admitted.
        """
        self._recorder.refused(method)
        message, details = refusal
        await context.abort(
            grpc.StatusCode.RESOURCE_EXHAUSTED, message, trailing_metadata=((DETAILS_KEY, details),)
        )

    def _begin(self, method: str, context: Any) -> CallRecord:
        """A call begins. Without a context, the trace that it belongs to is not known yet."""
        call = CallRecord(method)
        if context is not None:
            self._recorder.trace(call, context.invocation_metadata())
        self._in_flight += 1
        return call

    async def _asked(
        self, method: str, handler: Any, raw: Any, context: Any, *, is_stream: bool
    ) -> tuple[Caller, Any]:
        """Who calls, and the request, or the stream of them: as it is handled, if it may be asked for now."""
        caller = await self._gate.admit(method, context)
        parse = self._parse_each if is_stream else _parse
        request: Any = parse(handler.request_deserializer, raw)
        if caller.tenant:
            request = _taken_in(request, caller.tenant)
        if caller.user_id:
            self._gate.check_users(method, caller, request)
        if caller.rate is not None and is_stream:
            request = self._gate.paced(caller.rate, request)
        elif caller.rate is not None:
            await self._gate.check_rate(method, caller.rate, request)
        return caller, request

    async def _within_deadline(self, behaviour: Any, request: Any, context: Any) -> Any:
        """The response. grpc cancels the handler at the caller's deadline; at the default one, we do."""
        remaining = context.time_remaining()
        if remaining is not None:
            deadline.begin(remaining)
            return await behaviour(request, context)
        seconds = self._limits.default_deadline_seconds
        try:
            return await _within(seconds, behaviour, request, context)
        except _Late:
            raise DeadlineExceeded(
                f"not done within {seconds:g} s, the limit for calls without a deadline",
                reason="DEFAULT_DEADLINE_EXCEEDED",
            ) from None

    async def _within_own_deadline(self, behaviour: Any, request: Any, context: Any) -> Any:
        """The response to a call of a stream, which says itself how long its caller waits."""
        timeout = request.timeout
        seconds = timeout.seconds + timeout.nanos / 1e9
        if seconds <= 0:
            seconds = self._limits.default_deadline_seconds
        try:
            return await _within(seconds, behaviour, request, context)
        except _Late:
            raise late(seconds) from None

    async def _fail(self, call: CallRecord, error: BaseException, context: Any) -> None:
        """End the call with this error. Returns where the error itself has to pass, else aborts."""
        if isinstance(error, asyncio.CancelledError | GeneratorExit):
            self._end(call, grpc.StatusCode.CANCELLED)
            return
        if isinstance(error, grpc.aio.AbortError):
            self._end(call, context.code(), "ABORTED_BY_HANDLER")
            return
        if not isinstance(error, Exception):
            return  # the interpreter is going down
        answer = self._answer(error)
        if tenant := CURRENT_TENANT.get():
            answer = tenants.error_for(answer, tenant)
        defect = isinstance(answer, Internal)
        self._end(call, answer.code, answer.reason, error if defect else None, answer.metadata)
        status = to_status(answer, self._domain)
        _forget_frames(error)
        await context.abort(
            answer.code, status.message, trailing_metadata=((DETAILS_KEY, status.SerializeToString()),)
        )

    def _answer(self, error: Exception) -> LaurelError:
        """What the caller is told. Of a defect, nothing but a number that the log has too."""
        if isinstance(error, LaurelError):
            return error
        if isinstance(error, grpc.aio.AioRpcError):
            return from_rpc_error(error)
        for translate in self._translators:
            answer = translate(error)
            if answer is not None:
                return answer
        if isinstance(error, NotImplementedError):  # what the generated base class does
            return Unimplemented("this method is not implemented", reason="UNIMPLEMENTED")
        if isinstance(error, OSError):
            return Unavailable("a dependency is not available", reason="DEPENDENCY_UNAVAILABLE")
        return Internal("an internal error", reason="INTERNAL", metadata={"incident": str(new_id())})

    def _end(
        self,
        call: CallRecord,
        code: grpc.StatusCode,
        reason: str = "",
        error: BaseException | None = None,
        metadata: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._in_flight -= 1
        self._recorder.end(call, code, reason, error, metadata.get("incident", ""))


def _forget_frames(error: BaseException | None) -> None:
    """What the frames of an error hold, requests among it, would stay until the garbage collector comes by, which
    counts objects and not bytes: the transport keeps an ended call in a cycle with its error.
    """
    while error is not None and error.__traceback__ is not None:
        error.__traceback__ = None
        error = error.__cause__ or error.__context__


def _refusal(message: str, domain: str) -> tuple[str, bytes]:
    """What a call is told that is too much: message and details."""
    error = ResourceExhausted(message, reason="OVERLOADED", retry_after_seconds=_RETRY_AFTER_OVERLOAD_SECONDS)
    return error.message, to_status(error, domain).SerializeToString()


class _Late(Exception):
    """There was no response in time."""


async def _within(seconds: float, behaviour: Any, request: Any, context: Any) -> Any:
    """The response. Raises `_Late` where there is none in so many seconds."""
    deadline.begin(seconds)
    try:
        async with asyncio.timeout(seconds) as limit:
            return await behaviour(request, context)
    except TimeoutError:
        if not limit.expired():
            raise
        raise _Late from None


def _parse(deserialize: Callable[[bytes], Any], raw: bytes) -> Any:
    try:
        return deserialize(raw)
    except DecodeError:
        raise InvalidArgument("the request is not a valid message", reason="MALFORMED_REQUEST") from None


def _taken_in(request: Any, tenant: str) -> Any:
    """A request of a tenant's caller, or each of a stream, as it is handled."""
    if not isinstance(request, Message):
        return _take_in_each(request, tenant)
    tenants.taken_in(request, tenant)
    return request


async def _take_in_each(requests: AsyncIterator[Any], tenant: str) -> AsyncIterator[Any]:
    async for request in requests:
        tenants.taken_in(request, tenant)
        yield request


def _method_handler(original: Any, behaviour: Any) -> Any:
    """A handler of the same shape as `original`, which gets its requests unparsed.

    A response that is bytes is a serialized message, such as a stored reply: it leaves as it is.
    """
    make = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }[original.request_streaming, original.response_streaming]
    serialize = original.response_serializer
    return make(
        behaviour,
        request_deserializer=None,
        response_serializer=lambda response: response if isinstance(response, bytes) else serialize(response),
    )
