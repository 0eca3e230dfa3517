"""The one error type that crosses service boundaries, and its forms on the wire (DESIGN 6).

On the wire an error is a `google.rpc.Status` with one `ErrorInfo`, a `BadRequest` where fields are at fault,
and a `RetryInfo` where a wait is known; over gRPC it travels as `grpc-status-details-bin`.
"""

from collections.abc import Iterator, Mapping
from typing import ClassVar, Final

import grpc
import grpc.aio
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2
from msgspec import Struct
from msgspec.structs import replace

INVALID_FIELDS: Final = "INVALID_FIELDS"
DETAILS_KEY: Final = "grpc-status-details-bin"

# Details travel as metadata, which clients cap (8 KiB by default, in base64). An error has to arrive.
_MAX_MESSAGE_CHARS: Final = 512
_MAX_METADATA_CHARS: Final = 256
_MAX_STATUS_BYTES: Final = 4096


class FieldViolation(Struct, frozen=True):
    """What is wrong with one field of a request. `field` is its path in proto names, such as
    `user.time_zone`.
    """

    field: str
    description: str
    reason: str = ""


class LaurelError(Exception):
    """A definite answer that is not success. Raise one of the subclasses; `reason` is from the service's
    enum.

    `domain` says who answered (`streak.laurel`); it is empty until an error has crossed a boundary.
    """

    code: ClassVar[grpc.StatusCode] = grpc.StatusCode.UNKNOWN

    def __init__(
        self,
        message: str,
        *,
        reason: str,
        metadata: Mapping[str, str] | None = None,
        violations: tuple[FieldViolation, ...] = (),
        retry_after_seconds: float | None = None,
        domain: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.metadata: Mapping[str, str] = dict(metadata or {})
        self.violations = violations
        self.retry_after_seconds = retry_after_seconds
        self.domain = domain

    def __str__(self) -> str:
        """For tracebacks: what kind of answer it is, and why."""
        return f"{self.code.name} {self.reason}: {self.message}"


class Cancelled(LaurelError):
    """The caller went away."""

    code = grpc.StatusCode.CANCELLED


class Unknown(LaurelError):
    """Another party gave an answer without meaning here."""

    code = grpc.StatusCode.UNKNOWN


class InvalidArgument(LaurelError):
    """The request is wrong whatever the state of the system."""

    code = grpc.StatusCode.INVALID_ARGUMENT


class DeadlineExceeded(LaurelError):
    """Time ran out: the outcome is unknown (RULES 7.5)."""

    code = grpc.StatusCode.DEADLINE_EXCEEDED


class NotFound(LaurelError):
    """What the request names does not exist."""

    code = grpc.StatusCode.NOT_FOUND


class AlreadyExists(LaurelError):
    """What the request would create exists, with other content."""

    code = grpc.StatusCode.ALREADY_EXISTS


class PermissionDenied(LaurelError):
    """The caller may not do this."""

    code = grpc.StatusCode.PERMISSION_DENIED


class ResourceExhausted(LaurelError):
    """A limit is reached: a queue, a size, the number of concurrent calls."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED


class FailedPrecondition(LaurelError):
    """The state of the system forbids it; the same request may pass later."""

    code = grpc.StatusCode.FAILED_PRECONDITION


class Aborted(LaurelError):
    """A conflict with a concurrent change; the caller may try again."""

    code = grpc.StatusCode.ABORTED


class OutOfRange(LaurelError):
    """A result would leave the range that can be represented."""

    code = grpc.StatusCode.OUT_OF_RANGE


class Unimplemented(LaurelError):
    """There is no such method."""

    code = grpc.StatusCode.UNIMPLEMENTED


class Internal(LaurelError):
    """A defect on the answering side."""

    code = grpc.StatusCode.INTERNAL


class Unavailable(LaurelError):
    """A dependency is away; nothing definite was decided. The transport tries again."""

    code = grpc.StatusCode.UNAVAILABLE


class DataLoss(LaurelError):
    """Stored data cannot be read back."""

    code = grpc.StatusCode.DATA_LOSS


class Unauthenticated(LaurelError):
    """The caller has not said who it is."""

    code = grpc.StatusCode.UNAUTHENTICATED


_BY_NUMBER: Final[Mapping[int, type[LaurelError]]] = {
    kind.code.value[0]: kind for kind in LaurelError.__subclasses__()
}


class Violations:
    """Collects everything that is wrong with a request, so that the caller learns it at once.

    `within("events[3]")` gives a view that puts the prefix before each path and collects into the same list.
    """

    def __init__(self) -> None:
        self._found: list[FieldViolation] = []
        self._prefix = ""

    def add(self, field: str, description: str, reason: str = "") -> None:
        """Record a violation. `reason` is for a field error with a reason of its own, such as
        `EVENT_TOO_OLD`.
        """
        self._found.append(FieldViolation(self._prefix + field, description, reason))

    def extend(self, others: "Violations") -> None:
        """Record what another collection has, as it stands there."""
        self._found.extend(others)

    def within(self, path: str) -> "Violations":
        """A view for a message inside the request, at this path."""
        view = Violations()
        view._found = self._found
        view._prefix = f"{self._prefix}{path}."
        return view

    def __len__(self) -> int:
        return len(self._found)

    def __iter__(self) -> Iterator[FieldViolation]:
        return iter(tuple(self._found))

    def under(self, path: str) -> "Violations":
        """The same with this path before each: for where they stand once it is known that there are any."""
        prefixed = Violations()
        prefixed._found = [
            FieldViolation(f"{path}.{violation.field}", violation.description, violation.reason)
            for violation in self._found
        ]
        return prefixed

    def raise_if_any(self, reason: str | None = None) -> None:
        """Raise `error`, where there is any violation."""
        if self._found:
            raise self.error(reason)

    def error(self, reason: str | None = None) -> "InvalidArgument":
        """One error that lists every violation, of which there is at least one.

        Its reason is the one given, else the one that all violations share, else `INVALID_FIELDS`.
        """
        reasons = {violation.reason for violation in self._found}
        shared = reasons.pop() if len(reasons) == 1 else ""
        first = self._found[0]
        more = f" (and {len(self._found) - 1} more)" if len(self._found) > 1 else ""
        return InvalidArgument(
            f"{first.field}: {first.description}{more}",
            reason=reason or shared or INVALID_FIELDS,
            violations=tuple(self._found),
        )


def to_status(error: LaurelError, domain: str) -> status_pb2.Status:
    """The error as `google.rpc.Status`, in the name of `domain` unless it came from elsewhere. Cut to a size
    that arrives.
    """
    status = status_pb2.Status(code=error.code.value[0], message=_cut(error.message, _MAX_MESSAGE_CHARS))
    info = error_details_pb2.ErrorInfo(
        reason=error.reason,
        domain=error.domain or domain,
        metadata={key: _cut(value, _MAX_METADATA_CHARS) for key, value in error.metadata.items()},
    )
    status.details.add().Pack(info)
    if error.retry_after_seconds is not None:
        delay = Duration()
        delay.FromMicroseconds(round(error.retry_after_seconds * 1e6))
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    if error.violations:
        room = _MAX_STATUS_BYTES - status.ByteSize()
        status.details.add().Pack(_bad_request(error.violations, room))
    return status


def from_status(status: status_pb2.Status) -> LaurelError:
    """The error that this status carries. Unknown details are passed over; without `ErrorInfo` the reason is
    the code.
    """
    kind = _BY_NUMBER.get(status.code, Unknown)
    info = error_details_pb2.ErrorInfo()
    bad_request = error_details_pb2.BadRequest()
    retry = error_details_pb2.RetryInfo()
    retry_after_seconds = None
    for detail in status.details:
        if detail.Is(info.DESCRIPTOR):
            detail.Unpack(info)
        elif detail.Is(bad_request.DESCRIPTOR):
            detail.Unpack(bad_request)
        elif detail.Is(retry.DESCRIPTOR):
            detail.Unpack(retry)
            retry_after_seconds = retry.retry_delay.ToMicroseconds() / 1e6
    return kind(
        status.message,
        reason=info.reason or kind.code.name,
        metadata=dict(info.metadata),
        violations=tuple(
            FieldViolation(violation.field, violation.description, violation.reason)
            for violation in bad_request.field_violations
        ),
        retry_after_seconds=retry_after_seconds,
        domain=info.domain,
    )


def late(seconds: float) -> LaurelError:
    """What the transport says of a call without an answer in so many seconds. Of one on a stream it says nothing."""
    code = grpc.StatusCode.DEADLINE_EXCEEDED.value[0]
    return from_status(status_pb2.Status(code=code, message=f"no answer within {seconds:g} s"))


def from_rpc_error(error: grpc.aio.AioRpcError) -> LaurelError:
    """The error that a call ended with. One made by the transport has the name of its code as its reason."""
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            try:
                status = status_pb2.Status.FromString(value)
                if status.code == error.code().value[0]:
                    return from_status(status)
            except DecodeError:  # somebody else's idea of details; the plain status still holds
                break
    return from_status(status_pb2.Status(code=error.code().value[0], message=error.details() or ""))


def _bad_request(violations: tuple[FieldViolation, ...], room: int) -> error_details_pb2.BadRequest:
    """As many violations as fit into `room` bytes, and then how many more there are."""
    result = error_details_pb2.BadRequest()
    for index, violation in enumerate(violations):
        shown = replace(violation, description=_cut(violation.description, _MAX_MESSAGE_CHARS))
        result.field_violations.add(
            field=_cut(shown.field, _MAX_METADATA_CHARS), description=shown.description, reason=shown.reason
        )
        if result.ByteSize() > room and index:
            del result.field_violations[index:]
            result.field_violations.add(description=f"and {len(violations) - index} more")
            break
    return result


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
