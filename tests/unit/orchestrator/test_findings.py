"""What is missing in services that were put back to an earlier time."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from services.orchestrator.findings import CORRECTION, Act, Compared, LedgerRow, Log, compare, missing_writes
from services.orchestrator.saga import State, Step

NOW = datetime(2026, 6, 1, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
ALL = tuple(Step)
ONE, TWO = UUID(int=1), UUID(int=2)


def row(entry_id: UUID = ONE, state: State | None = State.DONE, **other: object) -> LedgerRow:
    values: dict[str, object] = {
        "kind": "metric_event",
        "user_id": "ada",
        "receive_time": NOW,
        "origin_id": None,
        "live": state is State.DONE,
        "undo_time": None if state is State.DONE else LATER,
        "has_reply": True,
        **other,
    }
    return LedgerRow(entry_id=entry_id, state=state, **values)  # type: ignore[arg-type]


def compared(*rows: LedgerRow, **logs: dict[UUID, Log]) -> Compared:
    return compare(rows, {step: logs.get(step.value, {}) for step in Step}, lambda _kind: ALL)


def everywhere(log: Log, but: str = "") -> dict[str, dict[UUID, Log]]:
    return {step.value: {ONE: log} for step in Step if step.value != but}


def acts(found: Compared) -> list[tuple[UUID, Act, tuple[Step, ...], datetime]]:
    return [(each.entry_id, each.act, each.services, each.due_time) for each in found.findings]


def test_nothing_is_found_where_all_have_applied_what_counts() -> None:
    found = compared(row(), **everywhere(Log.APPLIED))
    assert not found.findings
    assert not any(found.unknown.values())


def test_who_has_not_what_counts_gets_it_again_at_its_time() -> None:
    assert acts(compared(row(), **everywhere(Log.APPLIED, but="points"))) == [
        (ONE, Act.APPLY, (Step.POINTS,), NOW)
    ]


def test_what_was_voided_goes_both_ways_again_where_it_is_not_known() -> None:
    found = compared(row(state=State.VOIDED), **everywhere(Log.REVERTED, but="points"))
    assert acts(found) == [(ONE, Act.APPLY, (Step.POINTS,), NOW), (ONE, Act.UNDO, (Step.POINTS,), LATER)]


def test_what_was_voided_is_undone_where_it_still_counts() -> None:
    logs = {**everywhere(Log.REVERTED), "streak": {ONE: Log.APPLIED}}
    assert acts(compared(row(state=State.VOIDED), **logs)) == [(ONE, Act.UNDO, (Step.STREAK,), LATER)]


def test_what_was_refused_is_missed_by_nobody() -> None:
    assert not compared(row(state=State.REJECTED), streak={ONE: Log.REVERTED}).findings


def test_a_correction_that_is_missing_is_the_undoing_of_its_origin() -> None:
    correction = row(TWO, State.VOIDED, kind=CORRECTION, origin_id=ONE)
    found = compared(correction, **{**{s.value: {TWO: Log.APPLIED} for s in Step}, "points": {}})
    assert acts(found) == [(ONE, Act.UNDO, (Step.POINTS,), LATER)]


def test_what_is_under_way_is_left_to_recovery() -> None:
    found = compared(row(state=State.RUNNING), row(TWO, State.PARKED))
    assert (list(found.findings), found.unfinished) == ([], 2)


def test_what_only_a_service_has_or_has_undone_is_unknown() -> None:
    logs = {**everywhere(Log.APPLIED), "streak": {ONE: Log.TOMBSTONE, TWO: Log.APPLIED}}
    found = compared(row(), **logs)
    assert not found.findings
    assert found.unknown == {
        Step.STREAK: {ONE, TWO},
        Step.ACHIEVEMENT: set(),
        Step.POINTS: set(),
        Step.LEADERBOARD: set(),
    }


def test_definitions_older_than_the_newest_that_a_service_has_stay_away() -> None:
    writes = [UUID(int=number) for number in range(4)]
    assert missing_writes(writes, set()) == writes
    assert missing_writes(writes, {writes[0]}) == writes[1:]
    assert missing_writes(writes, {writes[3]}) == []
