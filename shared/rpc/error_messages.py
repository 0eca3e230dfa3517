"""Errors as values: what stands for an item of a batch that failed, and the error that such a value carries."""

from collections.abc import Iterable, Mapping
from typing import Final

import grpc
from laurel.common.v1 import error_pb2

from shared.errors import FieldViolation, LaurelError, Unknown

_ERRORS: Final[Mapping[str, type[LaurelError]]] = {
    kind.code.name: kind for kind in LaurelError.__subclasses__()
}


def error_message(error: LaurelError, domain: str = "") -> error_pb2.Error:
    """The error as a value for one item of a batch, in the name of `domain` unless it came from elsewhere."""
    message = error_pb2.Error(
        code=error.code.name,
        reason=error.reason,
        domain=error.domain or domain,
        message=error.message,
        metadata=dict(error.metadata),
        violations=violation_messages(error.violations),
    )
    if error.retry_after_seconds is not None:
        message.retry_delay.FromMicroseconds(round(error.retry_after_seconds * 1e6))
    return message


def violation_messages(violations: Iterable[FieldViolation]) -> list[error_pb2.FieldViolation]:
    """What is wrong with fields, as values."""
    return [
        error_pb2.FieldViolation(
            field=violation.field, description=violation.description, reason=violation.reason
        )
        for violation in violations
    ]


def error_from_message(message: error_pb2.Error) -> LaurelError:
    """The error that an outcome carries; a code without meaning here reads as UNKNOWN."""
    return _ERRORS.get(message.code, Unknown)(
        message.message,
        reason=message.reason or grpc.StatusCode.UNKNOWN.name,
        metadata=dict(message.metadata),
        violations=tuple(
            FieldViolation(violation.field, violation.description, violation.reason)
            for violation in message.violations
        ),
        retry_after_seconds=(
            message.retry_delay.ToMicroseconds() / 1e6 if message.HasField("retry_delay") else None
        ),
        domain=message.domain,
    )
