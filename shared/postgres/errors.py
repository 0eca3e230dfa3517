"""What a failure of PostgreSQL means to a caller, and which ones are worth another attempt."""

import logging
from typing import Final

import asyncpg
import grpc

from shared.errors import Aborted, InvalidArgument, LaurelError, OutOfRange, Unavailable
from shared.postgres.sessions import NoSessionError


class StateMoved(Exception):
    """What a decision was based on changed before it was stored: load again and decide again."""


_AWAY: Final = (
    OSError,  # also refused and reset connections, time-outs, and a socket file that is not there
    asyncpg.PostgresConnectionError,
    asyncpg.InternalClientError,  # a statement met the end of a connection that was being cut
    asyncpg.InsufficientResourcesError,  # too many connections, out of memory, disk full
    asyncpg.OperatorInterventionError,  # shutdown, restart, statement time-out
    asyncpg.LockNotAvailableError,
    asyncpg.ReadOnlySQLTransactionError,  # a standby that was promoted elsewhere
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    NoSessionError,
)
_CONFLICTS: Final = (
    StateMoved,
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
    asyncpg.InvalidCachedStatementError,  # a migration changed a table under a prepared statement
    asyncpg.OutdatedSchemaCacheError,
)
CLOSED: Final = "closed_while_condensed"
"""The constraint that refuses rows of a month which is being rewritten (`shared.postgres.condensing`)."""

_PASSING: Final = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
)
_UNREADABLE_TEXT: Final = (asyncpg.CharacterNotInRepertoireError, asyncpg.UntranslatableCharacterError)


def translate(error: BaseException) -> LaurelError | None:
    """What this failure means to a caller, or None where it is a defect of ours."""
    if isinstance(error, _AWAY) or _is_closed(error):
        return Unavailable("the database is not available", reason="DEPENDENCY_UNAVAILABLE")
    if is_conflict(error):
        return Aborted("a concurrent change kept getting in the way", reason="CONTENTION")
    if isinstance(error, _UNREADABLE_TEXT):
        return InvalidArgument("text holds a character that cannot be stored", reason="INVALID_TEXT")
    if isinstance(error, asyncpg.NumericValueOutOfRangeError):
        return OutOfRange("a sum would leave the range of 64 bits", reason="NUMERIC_OUT_OF_RANGE")
    return None


def log_failure(logger: logging.Logger, message: str, error: Exception, **extra: object) -> None:
    """What background work could not do, and tries again: a warning with the cause where that passes by itself, as
    with a database or a service that is away; else an error with its traceback.
    """
    known = error if isinstance(error, LaurelError) else translate(error)
    if known is not None and known.code in _PASSING:
        logger.warning(message, extra={**extra, "cause": str(error) or type(error).__name__})
    else:
        logger.error(message, exc_info=error, extra=extra)


def is_conflict(error: BaseException) -> bool:
    """Whether the same work, done again, may well pass: a moved state, a deadlock, a month that is closed for
    a while, or a request log entry that a concurrent twin wrote first (and that now answers for both).
    """
    if isinstance(error, asyncpg.UniqueViolationError):
        return (error.table_name or "").startswith("request_log")  # or one of its partitions
    if isinstance(error, asyncpg.CheckViolationError):
        return error.constraint_name == CLOSED
    return isinstance(error, _CONFLICTS)


def _is_closed(error: BaseException) -> bool:
    """asyncpg says with one type that a connection or pool is closed and that it was used wrongly. One that
    the server closed counts as released.
    """
    return (
        isinstance(error, asyncpg.InterfaceError)
        and not isinstance(error, ValueError)
        and any(word in str(error) for word in ("closed", "closing", "released back to the pool"))
    )
