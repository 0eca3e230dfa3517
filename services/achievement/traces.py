"""What the achievement service keeps of users (RULES 2.7). Completions and revocations, which are facts, stay under a
pseudonym; what stands goes, and with it the user's part in rarity.
"""

from typing import Final

from laurel.participant.v1 import participant_service_pb2 as pb

from shared.traces import BY_ENTRY, PSEUDONYM, Scanned, Table, Traces, holding

_ANONYMOUS: Final = {"user_id": PSEUDONYM}

TRACES: Final = Traces(
    "achievement",
    tables=(
        Table(
            "request_log",
            where=BY_ENTRY,
            kept=_ANONYMOUS
            | {
                "outcome": "''",
                "revert_outcome": "NULL",
                "counted": "NULL",
                "grounds": "NULL",
                "metric": "NULL",
            },
            messages={"outcome": holding(pb.Outcome), "revert_outcome": holding(pb.RevertOutcome)},
        ),
        Table("sources"),
        Table("accumulators"),
        Table("completion_facts", kept=_ANONYMOUS),
        Table("live_completions"),
        Table("withheld_completions"),
        Table("streak_reaches"),
        Table("revisions"),
        Table("users"),
    ),
    scanned=(Scanned("feed", messages={"body": holding(pb.Change)}),),
    impersonal=frozenset(
        {
            "backfills",
            "configuration_version",
            "definitions",
            "feed_lives",
            "maintenance",
            "mutation_log",
            "schema_migrations",
        }
    ),
)
