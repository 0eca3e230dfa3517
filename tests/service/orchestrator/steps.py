"""What tests do with the orchestrator's tables over and over."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from laurel.orchestrator.v1 import event_pb2
from msgspec.structs import replace

from services.orchestrator.domain import Aggregation, Metric, TimeWindow, Total
from services.orchestrator.operation import Asked
from services.orchestrator.operations import COUNTED, OPERATIONS, correction, metric_event, recorded_entry
from services.orchestrator.recording import Incoming, Recorded, record, unique_value
from services.orchestrator.store.history import History
from services.orchestrator.store.ledger import Feed, LedgerStore
from services.orchestrator.store.undo import TakenOut, UndoStore
from shared.errors import LaurelError
from shared.postgres.pool import Pool

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
METRICS = {
    "lessons": Metric("lessons", Aggregation.SUM),
    "countries": Metric("countries", Aggregation.UNIQUE, "country"),
    "record": Metric("record", Aggregation.MAX),
    "weight": Metric("weight", Aggregation.LAST),
}
HISTORY = TimeWindow(max_age=None, max_ahead=timedelta(minutes=5))
LEDGER = History(COUNTED, lambda name, request: OPERATIONS[name].patch_of(request))
AGGREGATIONS = {key: metric.aggregation for key, metric in METRICS.items()}


def event(
    key: str,
    user: str = "ada",
    metric: str = "lessons",
    value: float = 1,
    *,
    hours: float = 0,
    said: Mapping[str, str] | None = None,
    zone: str = "",
    received: float = 0,
    **attributes: str,
) -> Incoming:
    """`said`: attributes of the user; by default one that tells which event was the last to say it. `received`: when,
    in hours, as it occurs.
    """
    request = event_pb2.IngestEventRequest(
        metric=metric, value=value, idempotency_key=key, attributes=attributes
    )
    request.user.user_id = user
    request.user.time_zone = zone
    request.user.attributes.update({"seen": key} if said is None else said)
    request.occur_time.FromDatetime(NOON + timedelta(hours=hours))
    return metric_event.incoming(request, Asked(NOON + timedelta(hours=received), HISTORY))


async def store(
    pool: Pool,
    *group: Incoming,
    instance: str = "one",
    feed: Feed | None = None,
    ledger: LedgerStore | None = None,
) -> list[Recorded]:
    """Records a group as the intake does."""
    ledger = ledger or ledger_store(pool)
    snapshot = await ledger.load(group)
    values = [
        (item.patch.user_id, item.event.metric, value)
        for item in group
        if item.event and (value := unique_value(item.event, METRICS[item.event.metric]))
    ]
    loaded = replace(snapshot.loaded, firsts=await ledger.firsts(values))
    outcome = record(group, loaded, METRICS, "UTC")
    while outcome.wanted:
        loaded = await ledger.with_history(loaded, outcome.wanted)
        outcome = record(group, loaded, METRICS, "UTC")
    recorded = [item for item in outcome.entries if not isinstance(item, LaurelError)]
    await ledger.store(
        [(item, recorded_entry(item, "UTC").SerializeToString()) for item in recorded],
        outcome,
        snapshot,
        instance,
        feed,
    )
    return recorded


def undo_store(pool: Pool) -> UndoStore:
    """As the orchestrator makes it."""
    return UndoStore(pool, LEDGER, COUNTED)


def ledger_store(pool: Pool, recent_users: int = 0) -> LedgerStore:
    """As the orchestrator makes it."""
    return LedgerStore(pool, LEDGER, recent_users)


async def take_out(pool: Pool, recorded: Recorded) -> TakenOut:
    """Takes an entry out; what is left without it."""
    seen: list[TakenOut] = []

    def corrected(left: TakenOut) -> bytes:
        seen.append(left)
        return correction.correction_of(
            recorded_entry(recorded, "UTC"), left, NOON, "UTC", voided=True
        ).SerializeToString()

    entry_id = recorded.incoming.entry_id
    await undo_store(pool).take_out(
        entry_id, correction.correction_id(str(entry_id)), NOON, AGGREGATIONS, corrected
    )
    return seen[0]


async def total(pool: Pool, metric: str = "lessons") -> Total:
    snapshot = await ledger_store(pool).load([event("unsent", metric=metric, country="x")])
    return snapshot.loaded.totals["ada", metric]
