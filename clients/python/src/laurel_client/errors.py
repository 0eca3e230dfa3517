"""The one error that calls end with."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2
from laurel.common.v1 import error_pb2

_DETAILS_KEY: Final = "grpc-status-details-bin"
_BY_NUMBER: Final[Mapping[int, grpc.StatusCode]] = {code.value[0]: code for code in grpc.StatusCode}
_BY_NAME: Final[Mapping[str, grpc.StatusCode]] = {code.name: code for code in grpc.StatusCode}


@dataclass(frozen=True)
class FieldViolation:
    """What is wrong with one field of a request."""

    field: str
    """Its path in proto names, such as `user.time_zone`."""
    description: str
    """For a person to read."""
    reason: str = ""
    """Where the field's error has a reason of its own, such as `EVENT_TOO_OLD`."""


class LaurelError(Exception):
    """A call, or one item of a batch, that did not succeed."""

    code: grpc.StatusCode
    reason: str
    """From docs/errors.md, such as `METRIC_NOT_FOUND`; the code's name where the transport itself failed."""
    domain: str
    """Who answered, such as `points.laurel`; empty where the transport itself failed."""
    message: str
    """For a person to read."""
    metadata: Mapping[str, str]
    """Facts about the refusal, such as the amounts."""
    violations: tuple[FieldViolation, ...]
    """Every field that is wrong."""
    retry_after_seconds: float | None
    """How long the service asks to wait, where it said so."""
    request: Any
    """The request as it was sent, with its key: sent again, it does nothing twice. None for streams and items."""

    def __init__(
        self,
        message: str,
        *,
        code: grpc.StatusCode,
        reason: str,
        domain: str = "",
        metadata: Mapping[str, str] | None = None,
        violations: tuple[FieldViolation, ...] = (),
        retry_after_seconds: float | None = None,
        request: Any = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.reason = reason
        self.domain = domain
        self.metadata = dict(metadata or {})
        self.violations = violations
        self.retry_after_seconds = retry_after_seconds
        self.request = request

    def __str__(self) -> str:
        """For tracebacks: what kind of answer it is, and why."""
        return f"{self.code.name} {self.reason}: {self.message}"

    @classmethod
    def of_call(cls, error: grpc.RpcError, request: Any = None) -> "LaurelError":
        """What a call over any channel ended with, blocking or asyncio."""
        # The two kinds of call answer the same questions, without a common type.
        failed: Any = error
        code: grpc.StatusCode = failed.code()
        for key, value in failed.trailing_metadata() or ():
            if key == _DETAILS_KEY:
                try:
                    status = status_pb2.Status.FromString(value)
                except DecodeError:  # not Laurel's; the plain status still holds
                    break
                if status.code == code.value[0]:
                    return _of_status(status, request)
        return cls(failed.details() or "", code=code, reason=code.name, request=request)

    @classmethod
    def of_item(cls, error: error_pb2.Error) -> "LaurelError":
        """What one item of a batch or of a stream was refused with."""
        code = _BY_NAME.get(error.code, grpc.StatusCode.UNKNOWN)
        return cls(
            error.message,
            code=code,
            reason=error.reason or code.name,
            domain=error.domain,
            metadata=error.metadata,
            violations=tuple(
                FieldViolation(violation.field, violation.description, violation.reason)
                for violation in error.violations
            ),
            retry_after_seconds=(
                error.retry_delay.ToMicroseconds() / 1e6 if error.HasField("retry_delay") else None
            ),
        )


def _of_status(status: status_pb2.Status, request: Any) -> LaurelError:
    info = error_details_pb2.ErrorInfo()
    bad_request = error_details_pb2.BadRequest()
    retry = error_details_pb2.RetryInfo()
    retry_after_seconds = None
    for detail in status.details:
        if detail.Unpack(retry):
            retry_after_seconds = retry.retry_delay.ToMicroseconds() / 1e6
        elif not detail.Unpack(info):
            detail.Unpack(bad_request)
    code = _BY_NUMBER.get(status.code, grpc.StatusCode.UNKNOWN)
    return LaurelError(
        status.message,
        code=code,
        reason=info.reason or code.name,
        domain=info.domain,
        metadata=info.metadata,
        violations=tuple(
            FieldViolation(violation.field, violation.description, violation.reason)
            for violation in bad_request.field_violations
        ),
        retry_after_seconds=retry_after_seconds,
        request=request,
    )
