"""Where users were: the same list whatever arrived first, and what dates that no zone had do to a streak."""

import struct
from datetime import UTC, date, datetime, timedelta
from importlib import resources
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from services.streak.domain import (
    NO_ENTRY,
    Fact,
    FreezeSettings,
    Frequency,
    MetricThreshold,
    StreakDefinition,
    Told,
    UserZone,
    ZoneChange,
    fact,
    facts,
    first_told,
    fold,
    heard,
    says_nothing_new,
    undone,
)
from services.streak.domain.zones import changes_of
from shared.calendar import EARLIEST, local_date, zone_names

ZONES = ("UTC", "Asia/Tokyo", "Pacific/Kiritimati", "Pacific/Pago_Pago")
BEGINNING = datetime(2025, 3, 3, 12, tzinfo=UTC)


class Known:
    """A user of whom entries are told in some order, and undone."""

    def __init__(self) -> None:
        self.user: UserZone | None = None
        self.changes: tuple[ZoneChange, ...] = ()
        self.said: list[ZoneChange] = []
        self.version = 0

    def hear(self, own: ZoneChange) -> None:
        self.version += 1
        stored = max([*self.said, own], key=lambda one: one.order).time_zone
        told = Told(stored, self.version, BEGINNING + timedelta(days=20), own)
        if self.user is None:
            self.user, self.changes = first_told(told)
        elif not says_nothing_new(self.user, told):
            moved = heard(self.user, self.changes, told, self.following(own))
            if moved:
                self.user, self.changes = moved.user, moved.changes
        self.said.append(own)

    def undo(self, gone: ZoneChange) -> None:
        self.said.remove(gone)
        assert self.user
        moved = undone(self.user, self.changes, gone.entry_id, self.following(gone))
        if moved:
            self.user, self.changes = moved.user, moved.changes

    def following(self, own: ZoneChange) -> ZoneChange | None:
        return min(
            (change for change in self.said if change.order > own.order),
            key=lambda one: one.order,
            default=None,
        )

    def zone_at(self, instant: datetime) -> str:
        assert self.user
        held = [change for change in self.changes if change.occur_time <= instant]
        return held[-1].time_zone if held else self.user.time_zone


@given(
    st.lists(st.tuples(st.integers(0, 40), st.sampled_from(ZONES)), min_size=1, max_size=12),
    st.sets(st.integers(0, 11), max_size=6),
)
def test_the_zones_of_a_user_are_what_the_live_entries_say_in_order_of_time_whatever_came_first(
    entries: list[tuple[int, str]], doomed: set[int]
) -> None:
    said = [
        ZoneChange(BEGINNING + timedelta(hours=hours), UUID(int=number + 1), zone)
        for number, (hours, zone) in enumerate(entries)
    ]
    known = Known()
    for change in said:
        known.hear(change)
    gone = [change for number, change in enumerate(said) if number in doomed][: len(said) - 1]
    for change in gone:
        known.undo(change)
    live = [change for change in said if change not in gone]
    assert known.user
    expected = changes_of(live)
    assert known.user.time_zone == expected[-1].time_zone
    for change in live:
        at_once = max(
            (each for each in live if each.occur_time == change.occur_time), key=lambda each: each.order
        )
        assert known.zone_at(change.occur_time) == at_once.time_zone
    assert known.changes == changes_of(known.changes)
    assert known.user.move_time == (known.changes[-1].occur_time if len(known.changes) > 1 else None)


def test_a_zone_that_is_stored_for_another_reason_holds_from_the_instant_at_which_that_was_told() -> None:
    user = UserZone("UTC", 3)
    now = BEGINNING + timedelta(days=2)
    moved = heard(user, (), Told("Asia/Tokyo", 4, now, None), None)
    assert moved
    assert moved.changes == (ZoneChange(EARLIEST, NO_ENTRY, "UTC"), ZoneChange(now, NO_ENTRY, "Asia/Tokyo"))
    assert (moved.user, moved.appended) == (UserZone("Asia/Tokyo", 4, now), True)
    assert says_nothing_new(moved.user, Told("UTC", 3, now, ZoneChange(now, UUID(int=1), "Asia/Tokyo")))


def skipped_dates() -> list[tuple[str, date]]:
    """Every date since 1900 that a zone never had: where its clocks went on by a day."""
    found = []
    for name in sorted(zone_names()):
        data = resources.files("tzdata").joinpath("zoneinfo", *name.split("/")).read_bytes()
        for instant, before, after in transitions(data):
            if after - before >= 86_400 and instant > EARLIEST:
                first = (instant + timedelta(seconds=before)).date()
                last = (instant + timedelta(seconds=after)).date()
                found += [(name, first + timedelta(days=n)) for n in range((last - first).days)]
    return found


def transitions(data: bytes) -> list[tuple[datetime, int, int]]:
    """The changes of offset of a compiled zone (RFC 8536): when, and the seconds before and after."""

    def counts(start: int) -> tuple[int, ...]:
        return struct.unpack(">6l", data[start + 20 : start + 44])

    utc, std, leap, times, types, chars = counts(0)
    start = 44 + times * 5 + types * 6 + chars + leap * 8 + std + utc
    _, _, _, times, types, _ = counts(start)
    body = start + 44
    instants = struct.unpack(f">{times}q", data[body : body + times * 8])
    kinds = data[body + times * 8 : body + times * 9]
    offsets = [
        struct.unpack(">l", data[at : at + 4])[0]
        for at in range(body + times * 9, body + times * 9 + types * 6, 6)
    ]
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    return [
        (epoch + timedelta(seconds=instants[n]), offsets[kinds[n - 1]], offsets[kinds[n]])
        for n in range(1, times)
        if instants[n] > -2_000_000_000
    ]


def noon(day: date, zone: str) -> datetime:
    """An instant of a date that the zone had."""
    start = datetime(day.year, day.month, day.day, tzinfo=UTC) - timedelta(hours=15)
    return next(
        instant
        for instant in (start + timedelta(hours=hours) for hours in range(60))
        if local_date(instant, zone) == day
    )


def test_a_date_that_a_zone_skipped_neither_breaks_a_streak_nor_takes_a_freeze() -> None:
    dates = skipped_dates()
    assert ("Pacific/Apia", date(2011, 12, 30)) in dates
    assert len({zone for zone, _ in dates}) >= 5
    one_freeze = FreezeSettings(initial_count=1, max_count=1)
    for freezes in (FreezeSettings(), one_freeze):
        definition = StreakDefinition(
            "daily", Frequency.DAILY, (MetricThreshold("commits", 1),), freezes=freezes
        )
        for zone, skipped in dates:
            events: list[Fact] = [
                fact(UUID(int=offset + 9), "commits", 1, noon(skipped + timedelta(days=offset), zone), zone)
                for offset in (-2, -1, 1, 2)
            ]
            result = fold(definition, facts(events), events[-1].occur_time)
            assert result
            assert result.current.length == 4, (zone, skipped)
            assert [row.status.name for row in result.rows.periods][2] == "SKIPPED", (zone, skipped)
            assert result.current.freeze_count == freezes.max_count
            before = fold(definition, facts(events[:2]), events[1].occur_time)
            assert before
            # There is all of the day after to act in.
            assert before.current.expire_time
            day = local_date(before.current.expire_time - timedelta(seconds=1), zone)
            assert day == skipped + timedelta(days=1), (zone, skipped)
