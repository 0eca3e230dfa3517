"""audit: what was done by hand."""

from collections.abc import Sequence
from typing import Final

import click
import grpc
from laurel.orchestrator.v1 import access_service_pb2 as pb
from laurel.participant.v1 import audit_service_pb2

from services.cli import render
from services.cli.connect import Connections
from services.cli.options import json_option, limit_option

KEEP_THEIR_OWN: Final = ("notification", "leaderboard")
"""Services that keep what was done to them themselves; the orchestrator keeps the rest."""


@click.command(short_help="Show who changed what by hand, and why.")
@click.option("--subject", default="", help="Only what was done to this: streak/KEY, key/ID, entry/ID.")
@limit_option(50)
@json_option
@click.pass_obj
def audit(connections: Connections, subject: str, limit: int, as_json: bool) -> None:
    """Show what was done by hand, newest first: definitions, keys, voids, sagas retried or given up, webhooks and
    streams, boards filled anew.
    """
    request = pb.ListAdminOperationsRequest(subject=subject)
    response = connections.all_pages(connections.access.ListAdminOperations, request, "operations", limit)
    found = list(response.operations)
    for service in KEEP_THEIR_OWN:
        asked = audit_service_pb2.ListServiceOperationsRequest(subject=subject)
        try:
            listed = connections.audit_of(service).ListServiceOperations
            found.extend(connections.all_pages(listed, asked, "operations", limit).operations)
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            click.echo(f"{service} is away: what was done to it is not shown", err=True)
    found.sort(key=lambda each: (each.create_time.seconds, each.create_time.nanos), reverse=True)
    shown = pb.ListAdminOperationsResponse(operations=found[:limit])
    render.print_json(shown) if as_json else show_operations(shown.operations)


def show_operations(operations: Sequence[pb.AdminOperation]) -> None:
    """Each with the fields that it changed."""
    if not operations:
        render.line("  none", style="dim")
    for each in operations:
        who = each.actor or "somebody"
        where = f" from {each.peer}" if each.peer else ""
        why = f": {each.reason}" if each.reason else ""
        method = each.method.replace("_", " ")
        render.line(f"{render.instant(each.create_time)}  {method} {each.subject} by {who}{where}{why}")
        for field in each.fields:
            render.line(
                f"  {field.path}: {field.old_value or render.NONE} -> {field.new_value or render.NONE}"
            )
