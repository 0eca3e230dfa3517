"""What the streak service keeps of users (RULES 2.7). Periods and freezes stay under a pseudonym: statistics hold."""

from typing import Final

from laurel.participant.v1 import participant_service_pb2 as pb

from shared.traces import BY_ENTRY, PSEUDONYM, Scanned, Table, Traces, holding

_ANONYMOUS: Final = {"user_id": PSEUDONYM}

TRACES: Final = Traces(
    "streak",
    tables=(
        Table(
            "request_log",
            where=BY_ENTRY,
            kept=_ANONYMOUS
            | {"outcome": "''", "revert_outcome": "NULL", "time_zone": "NULL", "streaks": "NULL"},
            messages={"outcome": holding(pb.Outcome), "revert_outcome": holding(pb.RevertOutcome)},
        ),
        Table("contributions", where=BY_ENTRY),
        Table("streak_states"),
        Table("zone_changes"),
        Table("periods", kept=_ANONYMOUS),
        Table("freeze_ledger", kept=_ANONYMOUS),
        Table("users"),
        # Where a backfill or an amnesty stands: it goes over users or a date once more.
        Table("streak_backfills", kept={"user_id": f"left({PSEUDONYM}, 0)"}),
        Table("amnesty_passes", kept={"user_id": f"left({PSEUDONYM}, 0)"}),
    ),
    scanned=(Scanned("feed", messages={"body": holding(pb.Change)}),),
    impersonal=frozenset(
        {
            "configuration_version",
            "definition_history",
            "definitions",
            "feed_lives",
            "maintenance",
            "mutation_log",
            "schema_migrations",
        }
    ),
)
