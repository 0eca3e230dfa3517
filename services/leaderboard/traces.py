"""What the leaderboard service keeps of users (RULES 2.7). Open runs close their ranks; archives, prizes and daily
ranks stay under a pseudonym, so that nobody else's rank changes.
"""

from typing import Final

from laurel.common.v1 import configuration_pb2
from laurel.participant.v1 import participant_service_pb2 as pb

from shared.traces import BY_ENTRY, PSEUDONYM, Scanned, Table, Traces, always, holding

_ANONYMOUS: Final = {"user_id": PSEUDONYM}
_OF_SOME_RUN: Final = "(board, run_start, user_id) IN (SELECT board, start_date, $1 FROM runs)"
_OF_SOME_BOARD: Final = "(board, user_id) IN (SELECT DISTINCT board, $1 FROM runs)"

TRACES: Final = Traces(
    "leaderboard",
    tables=(
        Table(
            "request_log",
            where=BY_ENTRY,
            kept=_ANONYMOUS | {"outcome": "''", "revert_outcome": "NULL", "draft": "NULL", "metric": "NULL"},
            messages={"outcome": holding(pb.Outcome), "revert_outcome": holding(pb.RevertOutcome)},
        ),
        Table("early_revisions", where=BY_ENTRY),
        Table("scores"),
        Table("earnings"),
        Table("lengths"),
        Table("rank_events"),
        Table("divisions", where=_OF_SOME_BOARD),
        # Seats of open runs are given up by `handlers.erasing`.
        Table("seats", where=_OF_SOME_RUN, kept=_ANONYMOUS | {"utc_hour": "NULL"}),
        Table("archive", kept=_ANONYMOUS),
        Table("prizes", kept=_ANONYMOUS),
        Table("daily_ranks", kept=_ANONYMOUS),
        # Looked at anew: who passed the user meanwhile is told nobody any more. It names others too.
        Table(
            "tracked_tops",
            where="position(to_json($1::text)::text IN members) > 0",
            kept={"members": "NULL"},
            hidden=frozenset({"members"}),
        ),
        Table("users"),
    ),
    scanned=(
        Scanned("feed", messages={"body": holding(pb.Change)}),
        Scanned("admin_operations", messages={"fields": holding(configuration_pb2.FieldChange)}, kept=always),
    ),
    impersonal=frozenset(
        {
            "cohorts",
            "configuration_version",
            "definitions",
            "endings",
            "feed_lives",
            "kept_days",
            "maintenance",
            "mutation_log",
            "projection",
            "run_starts",
            "runs",
            "schema_migrations",
            "segments",
        }
    ),
)
