"""What the invariants expect of the board of each week, on any day of it (RULES 6.1, 6.2)."""

from datetime import UTC, date, datetime, timedelta
from uuid import uuid4

import pytest

from services.orchestrator.saga import State
from tests.fixtures.invariants import MICROS, weekly_boards
from tests.fixtures.ledger import Row

MONDAY = date(2026, 11, 23)
FINAL = datetime(2026, 11, 30, 13, tzinfo=UTC)
"""When that week is archived."""
TICK = timedelta(microseconds=1)


def step(
    occur_time: datetime,
    receive_time: datetime | None = None,
    undo_time: datetime | None = None,
    state: State = State.VOIDED,
    zone: str = "UTC",
    user: str = "ada",
) -> Row:
    """One step; received as it happened, and undone where an instant says when."""
    live = undo_time is None
    return Row(
        entry_id=uuid4(),
        user=user,
        metric="steps",
        micros=MICROS,
        time=occur_time,
        zone=zone,
        live=live,
        state=State.DONE if live else state,
        receive_time=receive_time or occur_time,
        undo_time=undo_time,
    )


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("receive_time", "members"),
    [
        ("2026-11-29 23:59:59", [("ada", 1)]),  # on Sunday
        ("2026-11-30 12:59:59.999999", [("ada", 1)]),  # on Monday, before the week is final
        ("2026-11-30 13:00:00", []),
        ("2026-12-02 02:00:00", []),  # on Wednesday
    ],
)
def test_an_event_counts_in_its_week_until_the_week_is_final(
    receive_time: str, members: list[tuple[str, float]]
) -> None:
    assert weekly_boards([step(at("2026-11-29 12:00"), at(receive_time))]) == {MONDAY: members}


@pytest.mark.parametrize(
    ("undo_time", "members"), [(FINAL - TICK, []), (FINAL, [("ada", 1)]), (FINAL + 7 * TICK, [("ada", 1)])]
)
def test_a_void_changes_a_week_only_until_it_is_final(
    undo_time: datetime, members: list[tuple[str, float]]
) -> None:
    assert weekly_boards([step(at("2026-11-25 12:00"), undo_time=undo_time)]) == {MONDAY: members}


def test_an_event_that_was_refused_never_stood_on_a_board() -> None:
    refused = step(at("2026-11-25 12:00"), undo_time=FINAL, state=State.REJECTED)
    assert weekly_boards([refused]) == {MONDAY: []}


@pytest.mark.parametrize(
    ("occur_time", "zone", "monday"),
    [
        ("2026-11-30 11:59", "Etc/GMT+12", MONDAY),  # the last zone on Earth
        ("2026-11-30 12:00", "Etc/GMT+12", MONDAY + timedelta(days=7)),
        ("2026-11-22 10:00", "Pacific/Kiritimati", MONDAY),  # the first one
        ("2026-11-22 09:59", "Pacific/Kiritimati", MONDAY - timedelta(days=7)),
        ("2026-10-25 23:30", "Europe/Berlin", date(2026, 10, 26)),  # the night on which summer time ended
        ("2026-10-25 22:30", "Europe/Berlin", date(2026, 10, 19)),
        ("2026-03-29 22:30", "Europe/Berlin", date(2026, 3, 30)),  # and that on which it had begun
        ("2026-03-29 21:30", "Europe/Berlin", date(2026, 3, 23)),
        ("2026-12-31 23:59", "UTC", date(2026, 12, 28)),  # a week may lie in two months, and in two years
        ("2027-01-01 00:00", "UTC", date(2026, 12, 28)),
    ],
)
def test_the_local_date_decides_the_week(occur_time: str, zone: str, monday: date) -> None:
    assert weekly_boards([step(at(occur_time), zone=zone)]) == {monday: [("ada", 1)]}


def test_members_are_ordered_by_what_counts_then_by_who_reached_it_first() -> None:
    rows = [
        step(at("2026-11-24 12:00"), user="late"),
        step(at("2026-11-23 12:00"), user="early"),
        step(at("2026-11-25 12:00"), user="most"),
        step(at("2026-11-26 12:00"), user="most"),
        *(step(at("2026-11-23 12:00"), FINAL, user="too late") for _ in range(5)),
    ]
    assert weekly_boards(rows) == {MONDAY: [("most", 2), ("early", 1), ("late", 1)]}
