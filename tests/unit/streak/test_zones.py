"""Where users were: the same list whatever arrived first, and what dates that no zone had do to a streak."""

import struct
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from importlib import resources
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from services.streak.domain import (
    NO_ENTRY,
    Fact,
    FreezeSettings,
    Frequency,
    MetricThreshold,
    Moved,
    StreakDefinition,
    UserZone,
    ZoneChange,
    fact,
    facts,
    fold,
    heard,
    says_nothing_new,
    told_of_nowhere,
    undone,
    whole_life,
)
from services.streak.domain.zones import changes_of
from shared.calendar import EARLIEST, local_date, zone_names

ZONES = ("UTC", "Asia/Tokyo", "Pacific/Kiritimati", "Pacific/Pago_Pago")
BEGINNING = datetime(2025, 3, 3, 12, tzinfo=UTC)


@dataclass
class Known:
    """A user of whom entries are told in some order, and undone."""

    user: UserZone | None = None
    changes: tuple[ZoneChange, ...] = ()
    named: list[ZoneChange] = field(default_factory=list)
    """The live entries that name a zone."""

    def hear(self, own: ZoneChange) -> None:
        if self.user is None:
            self.user = UserZone(own.time_zone, 1)
            self.changes = (whole_life(self.user),)
        elif not says_nothing_new(self.user, own):
            self.follow(heard(self.user, self.changes, own, self.following(own)))
        self.named.append(own)

    def undo(self, gone: ZoneChange) -> None:
        assert self.user
        self.named.remove(gone)
        self.follow(undone(self.user, self.changes, gone.entry_id, self.following(gone)))

    def store(self, zone: str, since: datetime) -> None:
        """The orchestrator has another zone stored: it knows of entries that did not come, or were undone since."""
        if self.user is None:
            self.user = UserZone(zone, 1)
            self.changes = (whole_life(self.user),)
        elif not self.named:
            self.follow(told_of_nowhere(self.user, self.changes, zone, since))

    def follow(self, moved: Moved | None) -> None:
        if moved is None:
            return
        before, self.user, self.changes = self.changes, moved.user, moved.changes
        assert moved.changes != before
        assert moved.since in moved.changes or moved.since in before
        same = [change for change in before if change.order < moved.since.order]
        assert list(moved.changes[: len(same)]) == same
        if moved.appended:
            assert moved.changes == (*before, moved.since)

    def following(self, own: ZoneChange) -> tuple[ZoneChange, ...]:
        later = [change for change in self.named if change.order > own.order]
        return tuple(sorted(later, key=lambda change: change.order)[:1])

    def since_the_first(self) -> tuple[ZoneChange, ...]:
        """Where the user was from the first live entry on."""
        first = min(self.named, key=lambda change: change.order)
        held = [change for change in self.changes if change.order <= first.order]
        later = [change for change in self.changes if change.order > first.order]
        return changes_of([replace(first, time_zone=held[-1].time_zone), *later])


Step = tuple[str, int]
"""An entry that comes or goes, or another zone that is stored, and a number that says which."""


@st.composite
def stories(draw: st.DrawFn) -> tuple[list[ZoneChange], list[Step]]:
    """What entries say, in any order, and what happens: a part of them is undone, at once or later, and corrections
    come late.
    """
    said = [
        ZoneChange(BEGINNING + timedelta(hours=hours), UUID(int=number + 1), zone)
        for number, (hours, zone) in enumerate(
            draw(st.lists(st.tuples(st.integers(0, 40), st.sampled_from(ZONES)), min_size=1, max_size=12))
        )
    ]
    doomed = draw(st.sets(st.integers(0, len(said) - 1)))
    steps: list[Step] = [("hear", number) for number in draw(st.permutations(range(len(said))))]
    for number in sorted(doomed):
        came = steps.index(("hear", number))
        steps.insert(draw(st.integers(came + 1, len(steps))), ("undo", number))
    for number in draw(st.lists(st.integers(0, len(ZONES) - 1), max_size=4)):
        steps.insert(draw(st.integers(0, len(steps))), ("store", number))
    return said, steps


@given(stories())
def test_the_zones_of_a_user_are_what_the_live_entries_alone_say_whatever_came_and_went_in_between(
    story: tuple[list[ZoneChange], list[Step]],
) -> None:
    said, steps = story
    known = Known()
    for step, number in steps:
        if step == "hear":
            known.hear(said[number])
        elif step == "undo":
            known.undo(said[number])
        else:
            known.store(ZONES[number], EARLIEST)
        if not known.named:
            continue
        expected = changes_of(known.named)
        assert known.since_the_first() == expected
        assert known.user
        assert known.user.time_zone == expected[-1].time_zone
        assert known.changes == changes_of(known.changes)


def test_what_is_stored_of_a_user_of_whom_no_entry_names_a_zone_holds_from_the_instant_at_which_that_was_told() -> (
    None
):
    user = UserZone("UTC", 3)
    now = BEGINNING + timedelta(days=2)
    moved = told_of_nowhere(user, (whole_life(user),), "Asia/Tokyo", now)
    assert moved
    assert moved.changes == (ZoneChange(EARLIEST, NO_ENTRY, "UTC"), ZoneChange(now, NO_ENTRY, "Asia/Tokyo"))
    assert (moved.user, moved.appended) == (UserZone("Asia/Tokyo", 3, now), True)
    assert says_nothing_new(moved.user, ZoneChange(now + timedelta(hours=1), UUID(int=1), "Asia/Tokyo"))
    assert told_of_nowhere(moved.user, moved.changes, "Asia/Tokyo", now + timedelta(hours=1)) is None


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
