"""What the leaderboard service keeps of users (RULES 2.7). Open runs close their ranks; archives, prizes and daily
ranks stay under a pseudonym, so that nobody else's rank changes.
"""

from typing import Final

from laurel.participant.v1 import participant_service_pb2 as pb

from shared.traces import BY_ENTRY, PSEUDONYM, Scanned, Table, Traces, holding

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
        Table("seats", where=_OF_SOME_RUN, kept=_ANONYMOUS),
        Table("archive", kept=_ANONYMOUS),
        Table("prizes", kept=_ANONYMOUS),
        Table("daily_ranks", kept=_ANONYMOUS),
        Table("users"),
    ),
    scanned=(Scanned("feed", messages={"body": holding(pb.Change)}),),
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
            "runs",
            "schema_migrations",
            "segments",
        }
    ),
)
