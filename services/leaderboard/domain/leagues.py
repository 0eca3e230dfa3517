"""Leagues (RULES 6.12): divisions in order, cohorts of bounded size, and who goes up or down at the end of a run."""

from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum
from typing import Final

from msgspec import Struct, json
from msgspec.structs import replace

DIVISION: Final = "division"
COHORT: Final = "cohort"
"""What names a cohort as a segment."""

FIRST_UTC_HOUR: Final = -12
UTC_HOURS: Final = 27
"""Clocks are from 12 hours behind UTC to 14 hours ahead of it."""


class Outcome(IntEnum):
    """What a run brings a user; stored by number."""

    PROMOTED = 1
    STAYS = 2
    DEMOTED = 3


class Division(Struct, frozen=True):
    """A division. The achievement is completed by being promoted to it; empty: none."""

    key: str
    achievement: str = ""


class League(Struct, frozen=True):
    """Divisions are numbered from 0, the lowest, where everybody begins."""

    divisions: tuple[Division, ...]
    cohort_size: int
    promoted_count: int = 0
    demoted_count: int = 0
    drops_inactive: bool = False
    zone_band_count: int = 0
    """Users of nearby zones are put together: of so many bands of zones, all as wide. 0: whoever comes."""


class Cohort(Struct, frozen=True):
    """One cohort of a run: the number of its division, and its own, from 1."""

    division: int
    number: int


class Seat(Struct, frozen=True):
    """What is known of a user in a run: the cohort; None: waiting for what the run before brings."""

    cohort: Cohort | None


def filled(league: League, latest: Mapping[int, tuple[int, int]], divisions: Iterable[int]) -> list[Cohort]:
    """The cohorts of users who become active one after the other, each of a division.

    `latest`: by division, the number of the cohort that is being filled, and how many it has. A cohort is full before
    the next begins.
    """
    known = dict(latest)
    seats = []
    for division in divisions:
        number, count = known.get(division, (1, 0))
        if count >= league.cohort_size:
            number, count = number + 1, 0
        known[division] = (number, count + 1)
        seats.append(Cohort(division, number))
    return seats


class Arrival(Struct, frozen=True):
    """Somebody who is to be put into a cohort of a division."""

    division: int
    utc_hour: int
    """So many whole hours the user's clock is ahead of UTC."""


class Filling(Struct, frozen=True):
    """A cohort of a run that has room."""

    number: int
    member_count: int
    band: int | None
    """Whose zones it is for: those of the first who came. None: it was begun while the league had no bands."""


class Begun(Struct, frozen=True):
    """The cohorts of a division in a run."""

    count: int = 0
    filling: tuple[Filling, ...] = ()
    """In any order."""


class Placed(Struct, frozen=True):
    """A place in a cohort, and for which band that is."""

    cohort: Cohort
    band: int | None


def zone_band(league: League, utc_hour: int) -> int:
    """The band of a zone, from 0 on: where a day ends last."""
    hour = min(max(utc_hour - FIRST_UTC_HOUR, 0), UTC_HOURS - 1)
    return hour * league.zone_band_count // UTC_HOURS


def filled_near(league: League, begun: Mapping[int, Begun], arrivals: Iterable[Arrival]) -> list[Placed]:
    """The cohorts of users who become active one after the other, of a league that puts nearby zones together.

    `begun`: by division. A user goes into the cohort of the own band that has room. Where there is none, one is begun,
    unless as many have room as are full, and one more: then the nearest band's takes the user. So a division in which
    few are active keeps together, and bands have cohorts of their own where many are.
    """
    known = dict(begun)
    places = []
    for arrival in arrivals:
        division = known.get(arrival.division, Begun())
        band = zone_band(league, arrival.utc_hour)
        chosen = _chosen(league, division, band)
        grown = replace(chosen, member_count=chosen.member_count + 1)
        others = [each for each in division.filling if each.number != chosen.number]
        has_room = grown.member_count < league.cohort_size
        known[arrival.division] = Begun(
            max(division.count, chosen.number), (*others, grown) if has_room else tuple(others)
        )
        places.append(Placed(Cohort(arrival.division, chosen.number), chosen.band))
    return places


def _chosen(league: League, division: Begun, band: int) -> Filling:
    """The cohort that a user of this band goes into."""
    filling = division.filling
    nearest = min(filling, key=lambda each: (_distance(each, band), each.number), default=None)
    side_by_side = min(division.count - len(filling) + 1, league.zone_band_count)
    if nearest is None or (_distance(nearest, band) and len(filling) < side_by_side):
        return Filling(division.count + 1, 0, band)
    return nearest


def _distance(filling: Filling, band: int) -> int:
    """By how many bands a cohort is another's. One that is for none is everybody's."""
    return 0 if filling.band is None else abs(filling.band - band)


def outcome_of(league: League, division: int, ordinal: int, member_count: int) -> Outcome:
    """What the member on this place of a cohort would be brought. Who goes up does not go down.

    Ties at a line are broken as the board breaks ties: so the place counts, not the rank.
    """
    if ordinal <= promoted_count(league, division):
        return Outcome.PROMOTED
    return Outcome.DEMOTED if ordinal > kept_count(league, division, member_count) else Outcome.STAYS


def promoted_count(league: League, division: int) -> int:
    """How many of a cohort go up."""
    return 0 if division >= len(league.divisions) - 1 else league.promoted_count


def kept_count(league: League, division: int, member_count: int) -> int:
    """How many of a cohort do not go down."""
    if division == 0:
        return member_count
    return max(member_count - league.demoted_count, promoted_count(league, division), 0)


def division_after(division: int, outcome: Outcome | None) -> int:
    """The division that follows."""
    match outcome:
        case Outcome.PROMOTED:
            return division + 1
        case Outcome.DEMOTED:
            return division - 1
        case _:
            return division


def cohort_values(league: League, cohort: Cohort) -> dict[str, str]:
    """A cohort as the attribute values of a segment."""
    return {DIVISION: league.divisions[cohort.division].key, COHORT: str(cohort.number)}


def cohort_segment(league: League, cohort: Cohort) -> str:
    """A cohort as a segment is written."""
    return json.encode(cohort_values(league, cohort), order="sorted").decode()


def seat_segment(league: League, seat: Seat | None) -> str:
    """The segment of a seat; that of the whole board for who waits or has none."""
    return "" if seat is None or seat.cohort is None else cohort_segment(league, seat.cohort)


def division_of(league: League, values: Mapping[str, str]) -> int:
    """The number of a cohort's division."""
    return [division.key for division in league.divisions].index(values[DIVISION])


def keeps_divisions(before: Sequence[str], after: Sequence[str]) -> bool:
    """Whether a change leaves the numbers of the divisions what they were: others come on top."""
    return list(after[: len(before)]) == list(before)
