"""context: which system the other commands talk to."""

import click
import grpc
from grpc_health.v1 import health_pb2

from services.cli import render
from services.cli.connect import Connections, dial
from services.cli.plugins import Launcher
from services.cli.targets import Target, behind
from shared.config import ConfigurationError

CHECK_TIMEOUT_SECONDS = 2.0


@click.command(short_help="Show which system commands talk to.")
@click.pass_obj
def context(connections: Connections) -> None:
    """Show which system commands talk to, who says so, and whether it answers."""
    targets = connections.targets
    guesses = [each for each in targets.values() if each.is_guess]
    if guesses:
        asked = behind(guesses[0], connections.launcher)
        render.line(f"No system was named. Reads ask {asked}; changes are refused.")
    rows: render.Rows = [
        [name, target.address, answer(target, connections.launcher), target.source]
        for name, target in targets.items()
    ]
    render.table(["service", "address", "answers", "by"], rows)


def answer(target: Target, launcher: Launcher | None) -> str:
    """What the service says of itself, such as `serving`, or why it says nothing."""
    if target.address is None:
        return "does not run"
    try:
        with dial(target, launcher) as channel:
            check = channel.unary_unary(
                "/grpc.health.v1.Health/Check",
                request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
                response_deserializer=health_pb2.HealthCheckResponse.FromString,
            )
            reply = check(health_pb2.HealthCheckRequest(), timeout=CHECK_TIMEOUT_SECONDS)
    except ConfigurationError as error:
        return error.problems[0]
    except grpc.RpcError as error:
        return render.enum_name(error.code().name, "")
    return render.enum_name(health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status), "")
