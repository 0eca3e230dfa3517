"""What the points service keeps of users (RULES 2.7). The ledger stays under a pseudonym: what was given holds."""

from typing import Final

from laurel.participant.v1 import participant_service_pb2 as pb
from laurel.points.v1 import points_pb2

from shared.traces import BY_ENTRY, PSEUDONYM, Scanned, Table, Traces, always, holding

_ANONYMOUS: Final = {"user_id": PSEUDONYM}
_SYSTEM: Final = holding(points_pb2.PointsSystem)

TRACES: Final = Traces(
    "points",
    tables=(
        Table(
            "request_log",
            where=BY_ENTRY,
            kept=_ANONYMOUS
            | {"outcome": "''", "revert_outcome": "NULL", "triggers": "NULL", "boosts": "NULL"},
            messages={"outcome": holding(pb.Outcome), "revert_outcome": holding(pb.RevertOutcome)},
        ),
        Table("revisions", where=BY_ENTRY),
        Table("awards", kept=_ANONYMOUS),
        Table("balances"),
        Table("trigger_states"),
        Table("completions"),
        Table("users"),
    ),
    scanned=(
        Scanned("feed", messages={"body": holding(pb.Change)}),
        # Of boosts that are for one user.
        Scanned("definitions", messages={"body": _SYSTEM}, kept=always),
        Scanned("terms", messages={"body": _SYSTEM}, kept=always),
    ),
    impersonal=frozenset(
        {
            "configuration_version",
            "feed_lives",
            "level_days",
            "maintenance",
            "mutation_log",
            "relevellings",
            "schema_migrations",
            "told_boosts",
        }
    ),
)
