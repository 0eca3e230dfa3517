"""What the orchestrator keeps of users (RULES 2.7). The ledger and the totals stay under a pseudonym, so that sums
hold: what happened and when, and how much, but nothing that was said with it.
"""

from typing import Final

from google.protobuf.message import Message
from laurel.common.v1 import configuration_pb2, error_pb2
from laurel.ledger.v1 import effects_pb2, entry_pb2
from laurel.orchestrator.v1 import orchestrator_service_pb2
from laurel.participant.v1 import definition_service_pb2

from services.orchestrator.operations import OPERATIONS
from shared.traces import BY_ENTRY, PSEUDONYM, Row, Scanned, Table, Traces, always, holding

ENTRIES: Final = "entries"
SAGAS: Final = "sagas"

_ANONYMOUS: Final = {"user_id": PSEUDONYM}


def _request(row: Row) -> type[Message] | None:
    operation = OPERATIONS.get(row["kind"])
    return None if operation is None else operation.request_type


def _is_of_another(row: Row, user_id: str) -> bool:
    return entry_pb2.Entry.FromString(row["entry"]).user.user_id != user_id


def _tells_of_it(row: Row) -> bool:
    return entry_pb2.Entry.FromString(row["entry"]).HasField("user_erasure")


TRACES: Final = Traces(
    "orchestrator",
    tables=(
        Table(
            SAGAS,
            where=BY_ENTRY,
            messages={
                "rejection": holding(error_pb2.Error),
                "applied": holding(effects_pb2.Effects),
                "correction": holding(entry_pb2.Entry),
                "void_reply": holding(orchestrator_service_pb2.VoidEntryResponse),
            },
        ),
        Table(
            ENTRIES,
            where=BY_ENTRY,
            kept=_ANONYMOUS
            | {
                "unique_value": "NULL",
                "digest": "''",
                "request": "''",
                "entry": "''",
                "actor": "NULL",
                "reason": "NULL",
                "other_user_ids": "NULL",
            },
            messages={"request": _request, "entry": holding(entry_pb2.Entry)},
        ),
        # Before the totals: where a total has nothing that is summed of it by date, all of it is summed.
        Table("metric_rollups", kept=_ANONYMOUS),
        Table("metric_days", kept=_ANONYMOUS),
        Table("totals", kept=_ANONYMOUS),
        Table("unique_values"),
        Table("keys", hidden=frozenset({"secret_hash", "previous_hash"})),
        Table("findings"),
        # Goes with the end of the deletion, until which it keeps others from recording anything.
        Table("users", where="user_id = $1 AND standing <> 2"),
    ),
    scanned=(
        Scanned(
            "domain_events",
            messages={"entry": holding(entry_pb2.Entry), "effects": holding(effects_pb2.Effects)},
            kept=_is_of_another,
            notice=_tells_of_it,
        ),
        Scanned("admin_operations", messages={"fields": holding(configuration_pb2.FieldChange)}, kept=always),
        # Of boosts that are for one user.
        Scanned(
            "definition_writes",
            messages={"request": holding(definition_service_pb2.WriteDefinitionsRequest)},
            kept=always,
        ),
    ),
    impersonal=frozenset(
        {
            "configuration_version",
            "definitions",
            "examination",
            "entry_keys",  # found by what it was derived from, when the user is erased
            "feed_cursors",
            "feed_lives",
            "instances",
            "metric_day_totals",
            "metric_sweep",
            "mutation_log",
            "schema_migrations",
        }
    ),
)
