"""What went wrong, as lines for a person and an exit code for a script."""

from collections.abc import Sequence
from typing import IO, Any, Final, cast

import click
import grpc
import grpc.aio

from services.cli.render import printable
from shared.errors import LaurelError, from_rpc_error

EXIT_REFUSED: Final = 1
EXIT_USAGE: Final = 2
EXIT_UNAVAILABLE: Final = 3

# A definite answer: the same request will be refused again. After anything else it may be sent again.
_DEFINITE: Final = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.ALREADY_EXISTS,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)


class CommandError(click.ClickException):
    """Ends the command with exit code 1; the lines go to standard error."""

    exit_code = EXIT_REFUSED

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(lines))

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(self.message, file=file, err=True)


class NotToldError(CommandError):
    """Ends the command with exit code 2: it was not told enough to go on."""

    exit_code = EXIT_USAGE


class UnavailableError(CommandError):
    """As a `CommandError`, but the same command may pass later."""

    exit_code = EXIT_UNAVAILABLE


def laurel_error(error: grpc.RpcError) -> LaurelError:
    """The typed error that a call ended with."""
    # Errors of blocking calls and of asyncio calls answer the same questions, without a common type.
    return from_rpc_error(cast(grpc.aio.AioRpcError, error))


def command_error(error: LaurelError, asked: Sequence[tuple[str, str, str]] = ()) -> CommandError:
    """One line with the reason, then one for each field at fault; none stands there twice.

    `asked` are the services that the command may have asked: name, address, and who says so.
    """
    if error.code is grpc.StatusCode.UNAVAILABLE and not error.domain:
        return UnavailableError(*_away(error, asked))
    definite = error.code in _DEFINITE
    violations = [f"{each.field or '...'}: {printable(each.description)}" for each in error.violations]
    message = printable(error.message)
    # A message is often its first violation, with how many more there are.
    first = next((printable(f"{each.field}: {each.description}") for each in error.violations), None)
    if first is not None and message.startswith(first):
        message = violations[0] if len(violations) == 1 else f"{len(violations)} fields are wrong"
        violations = violations if len(violations) > 1 else []
    # What is not there is named by the message and its metadata; so it need not be by its field.
    if len(error.violations) == 1 and error.violations[0].field in error.metadata:
        violations = []
    lines = [describe(error, message), *(f"  {each}" for each in violations)]
    return CommandError(*lines) if definite else UnavailableError(*lines)


def _away(error: LaurelError, asked: Sequence[tuple[str, str, str]]) -> list[str]:
    """Which service does not answer, and what to do. The transport says no more than an address."""
    cause = printable(error.message).rpartition(": ")[2]
    for service, address, source in asked:
        if f":{address}:" in error.message:
            return [
                f"failed: UNAVAILABLE: {service} at {address} ({source}) does not answer: {cause}",
                "  `laurel context` shows what of the system answers; `laurel up` starts one on this machine.",
            ]
    return [
        describe(error),
        "  Does the system run? `laurel status` tells; `laurel up` starts it on this machine.",
    ]


def describe(error: LaurelError, message: str | None = None) -> str:
    """`refused: INVALID_ARGUMENT, EVENT_TOO_OLD (orchestrator.laurel): message [key=value]`."""
    kind = "refused" if error.code in _DEFINITE else "failed"
    reason = "" if error.reason == error.code.name else f", {error.reason}"
    origin = f" ({error.domain})" if error.domain else ""
    known = ", ".join(f"{key}={value}" for key, value in sorted(error.metadata.items()))
    return printable(f"{kind}: {error.code.name}{reason}{origin}: {message or error.message}") + (
        printable(f" [{known}]") if known else ""
    )
