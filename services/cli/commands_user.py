"""user: one user, and everything that is kept of one."""

import json
import uuid
from collections import Counter
from typing import IO

import click
import grpc
from laurel.orchestrator.v1 import orchestrator_service_pb2 as pb
from laurel.orchestrator.v1 import user_pb2

from services.cli import render
from services.cli.connect import Connections
from services.cli.errors import CommandError
from services.cli.options import Pair, ShowGroup, json_option, key_option, pairs
from services.cli.show_user import read_user_page, show_user_page

_BEGUN = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
"""After these answers something may go on."""


@click.group(cls=ShowGroup, short_help="Show, change, merge, export or delete a user.")
def user() -> None:
    """Show one user, `laurel user ID`; change one; merge one into another; export or delete all that is kept of one.

    Where an id is the name of a command, `laurel user show ID`.
    """


@user.command("show")
@click.argument("user_id")
@json_option
@click.pass_obj
def show(connections: Connections, user_id: str, as_json: bool) -> None:
    """Show everything about one user."""
    page = read_user_page(connections, user_id)
    render.print_json(page.responses()) if as_json else show_user_page(page)


@user.command("change")
@click.argument("user_id")
@click.option("--name", default="", help="Display name.")
@click.option("--tz", "time_zone", default="", help="IANA zone.")
@click.option("--attr", "attributes", type=Pair(), multiple=True, help="An attribute; others stay.")
@click.option(
    "--clear",
    multiple=True,
    metavar="FIELD",
    help="name, time_zone, or attributes.KEY: there is none any more.",
)
@key_option
@json_option
@click.pass_obj
def change(
    connections: Connections,
    user_id: str,
    name: str,
    time_zone: str,
    attributes: tuple[tuple[str, str], ...],
    clear: tuple[str, ...],
    key: str | None,
    as_json: bool,
) -> None:
    """Say something of a user without an event, or take it back."""
    said = user_pb2.User(
        user_id=user_id, name=name, time_zone=time_zone, attributes=pairs(attributes, "--attr")
    )
    paths = [*clear, *(f"attributes.{each}" for each in said.attributes)]
    paths += [field for field in ("name", "time_zone") if getattr(said, field)]
    if not paths:
        raise CommandError("nothing is said: --name, --tz, --attr or --clear")
    request = pb.UpdateUserRequest(user=said, request_id=key or str(uuid.uuid4()))
    request.update_mask.paths.extend(paths)
    reply = connections.orchestrator.UpdateUser(request, timeout=connections.timeout_seconds)
    if as_json:
        render.print_json(reply)
        return
    stored = reply.user
    render.facts(
        [
            ("user", stored.user_id),
            ("name", stored.name or None),
            ("zone", stored.time_zone),
            (
                "attributes",
                ", ".join(f"{each}={stored.attributes[each]}" for each in sorted(stored.attributes)),
            ),
            ("entry", reply.entry_id),
        ]
    )


@user.command("export")
@click.argument("user_id")
@click.option("--output", "-o", type=click.File("w", encoding="utf-8"), default="-", help="Write to a file.")
@click.pass_obj
def export(connections: Connections, user_id: str, output: IO[str]) -> None:
    """Write every row that any service keeps of a user, as one JSON document.

    Services and their tables with their rows; of the ledger, each entry with its request and its reply.
    """
    counts: Counter[str] = Counter()
    kept: dict[str, dict[str, list[str]]] = {}
    for response in connections.orchestrator.ExportUser(
        pb.ExportUserRequest(user_id=user_id), timeout=connections.timeout_seconds
    ):
        for row in response.rows:
            kept.setdefault(row.service, {}).setdefault(row.table, []).append(row.json)
            counts[row.service] += 1
    output.write('{"user_id": ' + json.dumps(user_id, ensure_ascii=False) + ', "services": {')
    for number, (service, tables) in enumerate(kept.items()):
        output.write((", " if number else "") + f'\n"{service}": {{')
        for place, (table, rows) in enumerate(tables.items()):
            # The rows are JSON already.
            output.write((", " if place else "") + f'\n  "{table}": [\n    ' + ",\n    ".join(rows) + "]")
        output.write("}")
    output.write("}}\n")
    told = ", ".join(f"{count} of {service}" for service, count in counts.items())
    click.echo(f"{counts.total()} rows{': ' if told else ''}{told}", err=True)


@user.command("delete")
@click.argument("user_id")
@click.option("--reason", default="", help="Why, for the audit: it is kept, and should not name the user.")
@key_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@click.pass_obj
def delete(
    connections: Connections, user_id: str, reason: str, key: str | None, yes: bool, as_json: bool
) -> None:
    """Delete a user in every service, for good; ledgers and archives stay under a pseudonym.

    `laurel user export` shows before what goes, `laurel user verify-deleted` afterwards that it went.
    """
    if not yes:
        click.confirm(f"Delete {user_id} and all that is kept of {user_id}?", abort=True, err=True)
    request_id = key or str(uuid.uuid4())
    request = pb.DeleteUserRequest(user_id=user_id, reason=reason, request_id=request_id)
    try:
        reply = connections.orchestrator.DeleteUser(request, timeout=connections.timeout_seconds)
    except grpc.RpcError as error:
        _say_how_to_ask_again(error, request_id)
        raise
    if as_json:
        render.print_json(reply)
    else:
        render.line(f"deleted {user_id}; what has to stay stands under {reply.pseudonym}")


@user.command("merge")
@click.argument("user_id")
@click.argument("into_user_id")
@click.option("--reason", default="", help="Why, for the audit.")
@key_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@click.pass_obj
def merge(
    connections: Connections,
    user_id: str,
    into_user_id: str,
    reason: str,
    key: str | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Merge a user into another who is known, for good.

    Everything that USER_ID did counts for INTO_USER_ID, as of its own time, and from then on USER_ID leads
    there: for who was anonymous and signs in.
    """
    if not yes:
        click.confirm(f"Merge {user_id} into {into_user_id}? It cannot be undone.", abort=True, err=True)
    request_id = key or str(uuid.uuid4())
    request = pb.MergeUsersRequest(
        user_id=user_id, into_user_id=into_user_id, reason=reason, request_id=request_id
    )
    try:
        reply = connections.orchestrator.MergeUsers(request, timeout=connections.timeout_seconds)
    except grpc.RpcError as error:
        _say_how_to_ask_again(error, request_id)
        raise
    if as_json:
        render.print_json(reply)
        return
    render.line(f"{user_id} is {reply.into_user_id} now: {render.number(reply.moved_count)} entries moved")
    if reply.refused_count:
        render.line(f"{render.number(reply.refused_count)} could not be: `laurel user {reply.into_user_id}`")


@user.command("verify-deleted")
@click.argument("user_id")
@json_option
@click.pass_obj
def verify_deleted(connections: Connections, user_id: str, as_json: bool) -> None:
    """Search every table of every service for a user; exit code 1 where any names the user.

    What tells others of the deletion itself does not count: it goes when its retention ends. It reads
    everything: give a large system time, `laurel --timeout 3600 user verify-deleted ID`.
    """
    searched = [
        response.table
        for response in connections.orchestrator.FindUserTraces(
            pb.FindUserTracesRequest(user_id=user_id), timeout=connections.timeout_seconds
        )
    ]
    left = [table for table in searched if table.row_count > table.notice_count]
    if as_json:
        render.print_json({f"{table.service}.{table.table}": table for table in searched})
    else:
        services = len({table.service for table in searched})
        render.line(f"{len(searched)} tables of {services} services were searched for {user_id}")
        for table in searched:
            if table.row_count:
                render.line(f"  {table.service}.{table.table}: {_found(table.row_count, table.notice_count)}")
                render.line(f"    in {', '.join(table.columns)}", style="dim")
    if left:
        rows = sum(table.row_count - table.notice_count for table in left)
        raise CommandError(f"{rows} rows in {len(left)} tables name {user_id}")
    if not as_json:
        render.line("no trace is left", style="green")


def _found(rows: int, notices: int) -> str:
    if not notices:
        return f"{rows} rows"
    told = f"{notices} that tell of the deletion, until their retention ends"
    return told if rows == notices else f"{rows - notices} rows, and {told}"


def _say_how_to_ask_again(error: grpc.RpcError, request_id: str) -> None:
    """Where it may have begun."""
    if isinstance(error, grpc.Call) and error.code() in _BEGUN:
        click.echo(f"Ask again with --key {request_id}: what has begun goes on by itself.", err=True)
