"""grant, spend, operate: what administrators and internal services do to users by call."""

import uuid
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

import click
from laurel.orchestrator.v1 import orchestrator_service_pb2 as pb

from services.cli import render
from services.cli.connect import Connections
from services.cli.importing import Refusal, describe_item_error, parse_line, read_lines
from services.cli.operation_commands import operation_command, operation_names
from services.cli.options import INT32, INT64, ShowGroup, by_hand_options, json_option
from services.cli.show_event import show_operation

OPERATIONS_A_CALL: Final = 100


def call_options(command: Any) -> Any:
    """`by_hand_options`, and the connections to the system."""
    return by_hand_options(click.pass_obj(command))


def gift_options(command: Any) -> Any:
    """Whose points of which system, how many, and why."""
    for option in (
        call_options,
        click.argument("amount", type=INT64),
        click.argument("points_system", metavar="SYSTEM"),
        click.argument("user_id", metavar="USER"),
    ):
        command = option(command)
    return command


@click.command(short_help="Give a user points.")
@gift_options
def grant(connections: Connections, /, key: str | None, as_json: bool, **gift: Any) -> None:
    """Give a user AMOUNT points of a SYSTEM."""
    request = pb.GrantPointsRequest(**gift, request_id=key or str(uuid.uuid4()))
    reply = connections.orchestrator.GrantPoints(request, timeout=connections.timeout_seconds)
    render.print_json(reply) if as_json else show_operation(reply)


@click.command(short_help="Take points from a user, all or none.")
@gift_options
def spend(connections: Connections, /, key: str | None, as_json: bool, **gift: Any) -> None:
    """Take AMOUNT points of a SYSTEM from a user; none at all where the balance does not cover it."""
    request = pb.SpendPointsRequest(**gift, request_id=key or str(uuid.uuid4()))
    reply = connections.orchestrator.SpendPoints(request, timeout=connections.timeout_seconds)
    render.print_json(reply) if as_json else show_operation(reply)


@click.command(short_help="Move points from a user to another.")
@click.argument("user_id", metavar="FROM")
@click.argument("to_user_id", metavar="TO")
@click.argument("points_system", metavar="SYSTEM")
@click.argument("amount", type=INT64)
@call_options
def transfer(connections: Connections, /, key: str | None, as_json: bool, **asked: Any) -> None:
    """Move AMOUNT points of a SYSTEM from a user to another: both or neither, all of them or none."""
    request = pb.TransferPointsRequest(**asked, request_id=key or str(uuid.uuid4()))
    reply = connections.orchestrator.TransferPoints(request, timeout=connections.timeout_seconds)
    render.print_json(reply) if as_json else show_operation(reply)


@click.command(short_help="Keep points from being spent for a while.")
@click.argument("user_id", metavar="USER")
@click.argument("points_system", metavar="SYSTEM")
@click.argument("amount", type=INT64)
@click.option("--seconds", "hold_seconds", type=INT32, default=0, help="When it ends by itself; default 900.")
@call_options
def hold(connections: Connections, /, key: str | None, as_json: bool, **asked: Any) -> None:
    """Hold AMOUNT points of a SYSTEM for a purchase that waits for an answer. The entry's id names the hold."""
    request = pb.HoldPointsRequest(**asked, request_id=key or str(uuid.uuid4()))
    reply = connections.orchestrator.HoldPoints(request, timeout=connections.timeout_seconds)
    render.print_json(reply) if as_json else show_operation(reply)


@click.command(short_help="Take points that are held.")
@click.argument("user_id", metavar="USER")
@click.argument("hold_entry_id", metavar="HOLD")
@click.option(
    "--amount", type=INT64, default=0, help="Only so many of them; default: all. The rest is released."
)
@call_options
def capture(connections: Connections, /, key: str | None, as_json: bool, **asked: Any) -> None:
    """Take what a HOLD keeps of a user's points, and end it."""
    request = pb.CapturePointsRequest(**asked, request_id=key or str(uuid.uuid4()))
    reply = connections.orchestrator.CapturePoints(request, timeout=connections.timeout_seconds)
    render.print_json(reply) if as_json else show_operation(reply)


@click.command(short_help="Let points that are held be spent again.")
@click.argument("user_id", metavar="USER")
@click.argument("hold_entry_id", metavar="HOLD")
@call_options
def release(connections: Connections, /, key: str | None, as_json: bool, **asked: Any) -> None:
    """End a HOLD of a user's points, and take nothing."""
    request = pb.ReleasePointsRequest(**asked, request_id=key or str(uuid.uuid4()))
    reply = connections.orchestrator.ReleasePoints(request, timeout=connections.timeout_seconds)
    render.print_json(reply) if as_json else show_operation(reply)


class OperateGroup(ShowGroup):
    """A command for each operation; what is none of them is a file."""

    otherwise = "file"

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        name = args[0] if args else ""
        if (
            name
            and not name.startswith("-")
            and not self.get_command(context, name)
            and not Path(name).exists()
        ):
            close = get_close_matches(name, self.list_commands(context), 1)
            meant = f"; did you mean {close[0]}?" if close else ""
            raise click.UsageError(f"{name!r} is neither an operation nor a file{meant}", context)
        return super().parse_args(context, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*super().list_commands(ctx), *operation_names()]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return super().get_command(ctx, cmd_name) or operation_command(cmd_name)


@click.group(cls=OperateGroup, short_help="Perform any operation, or those of a file.")
def operate() -> None:
    """Perform one operation, or those of a FILE: `laurel operate FILE`.

    Each operation has its help, with what its fields mean: `laurel operate points-grant --help`.
    """


@operate.command("file", short_help="Perform the operations of a file.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@json_option
@click.pass_obj
def operate_file(connections: Connections, file: Path, as_json: bool) -> None:
    """Perform the operations of a FILE, one JSON document a line, plain or gzip, each with its own request id:

    {"userUpdate": {"user": {"userId": "ada", "name": "Ada"}, "requestId": "rename-ada"}}

    Lines that are refused are reported with their numbers, and the rest goes on. Run it again after a
    failure: what was done is not done twice. The exit code is 1 if lines were refused.
    """
    done_count = replayed_count = refused_count = 0
    for numbers, operations, malformed in _calls(file):
        refusals = list(malformed)
        if operations:
            request = pb.PerformOperationsRequest(operations=operations)
            response = connections.orchestrator.PerformOperations(
                request, timeout=connections.timeout_seconds
            )
            for number, result in zip(numbers, response.results, strict=True):
                kind = result.WhichOneof("result")
                if kind == "error":
                    refusals.append(Refusal(number, describe_item_error(result.error)))
                elif getattr(result, str(kind)).idempotent_replayed:
                    replayed_count += 1
                else:
                    done_count += 1
                if as_json:
                    render.line(render.json_line(result))
        refused_count += len(refusals)
        for refusal in sorted(refusals, key=lambda each: each.line_number):
            click.echo(render.printable(f"{file}:{refusal.line_number}: {refusal.what}"), err=True)
    if not as_json:
        render.line(
            f"{render.number(done_count)} done, {render.number(replayed_count)} done before, "
            f"{render.number(refused_count)} refused."
        )
    if refused_count:
        raise SystemExit(1)


def _calls(file: Path) -> Iterator[tuple[list[int], list[pb.OperationRequest], list[Refusal]]]:
    """The lines of a file by calls: numbers and operations, and what could not be read. Raises `OSError`."""
    numbers: list[int] = []
    operations: list[pb.OperationRequest] = []
    malformed: list[Refusal] = []
    for number, content, _ in read_lines(file):
        parsed = (
            content if isinstance(content, Refusal) else parse_line(number, content, pb.OperationRequest())
        )
        if isinstance(parsed, Refusal):
            malformed.append(parsed)
        else:
            numbers.append(number)
            operations.append(parsed)
        if len(numbers) + len(malformed) == OPERATIONS_A_CALL:
            yield numbers, operations, malformed
            numbers, operations, malformed = [], [], []
    if numbers or malformed:
        yield numbers, operations, malformed
