"""RULES 6.12: cohorts, and who goes up or down."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from services.leaderboard.domain.boards import segment_values
from services.leaderboard.domain.leagues import (
    Arrival,
    Begun,
    Division,
    Filling,
    League,
    Outcome,
    Placed,
    cohort_segment,
    division_after,
    division_of,
    filled,
    filled_near,
    keeps_divisions,
    outcome_of,
    zone_band,
)

DIVISIONS = tuple(Division(key) for key in ("bronze", "silver", "gold"))


def league(size: int = 30, up: int = 2, down: int = 1) -> League:
    return League(DIVISIONS, size, up, down)


def outcomes(rules: League, division: int, members: int) -> str:
    """U, S or D for each place of a cohort."""
    return "".join(
        {Outcome.PROMOTED: "U", Outcome.STAYS: "S", Outcome.DEMOTED: "D"}[
            outcome_of(rules, division, place, members)
        ]
        for place in range(1, members + 1)
    )


def test_the_first_go_up_and_the_last_go_down() -> None:
    assert outcomes(league(), 1, 5) == "UUSSD"


def test_nobody_goes_down_from_the_lowest_or_up_from_the_highest_division() -> None:
    assert outcomes(league(), 0, 5) == "UUSSS"
    assert outcomes(league(), 2, 5) == "SSSSD"


def test_who_goes_up_does_not_go_down_however_small_the_cohort_is() -> None:
    assert [outcomes(league(up=2, down=3), 1, members) for members in (1, 2, 3, 6)] == [
        "U",
        "UU",
        "UUD",
        "UUSDDD",
    ]


def test_a_cohort_is_full_before_the_next_begins() -> None:
    seats = filled(league(size=2), {0: (4, 1)}, [0, 0, 1, 0, 1, 1])
    assert [(seat.division, seat.number) for seat in seats] == [
        (0, 4),
        (0, 5),
        (1, 1),
        (0, 5),
        (1, 1),
        (1, 2),
    ]


@given(st.integers(2, 6), st.lists(st.integers(0, 2), max_size=60))
def test_no_cohort_is_larger_than_it_may_be_and_at_most_one_of_a_division_is_not_full(
    size: int, divisions: list[int]
) -> None:
    """Whether they come at once or one by one."""
    rules = league(size=size)
    seats = filled(rules, {}, divisions)
    counts = Counter(seats)
    assert max(counts.values(), default=0) <= size
    for division in range(3):
        assert sum(count < size for seat, count in counts.items() if seat.division == division) <= 1
    one_by_one = []
    latest: dict[int, tuple[int, int]] = {}
    for division in divisions:
        (seat,) = filled(rules, latest, [division])
        number, count = latest.get(division, (0, 0))
        latest[division] = (seat.number, count + 1 if seat.number == number else 1)
        one_by_one.append(seat)
    assert one_by_one == seats


def balanced(size: int = 2, bands: int = 3) -> League:
    return League(DIVISIONS, size, zone_band_count=bands)


def seated(rules: League, *hours: int, begun: Begun | None = None) -> list[tuple[int, int | None]]:
    """The cohort of each who comes to the lowest division, and its band."""
    arrivals = [Arrival(0, hour) for hour in hours]
    return [(each.cohort.number, each.band) for each in filled_near(rules, {0: begun or Begun()}, arrivals)]


NEW_YORK, BERLIN, DELHI, TOKYO = -5, 1, 5, 9


def test_three_bands_are_the_americas_europe_with_africa_and_the_east() -> None:
    bands = [zone_band(balanced(), hour) for hour in range(-12, 15)]
    assert bands == [0] * 9 + [1] * 9 + [2] * 9
    assert [zone_band(balanced(bands=2), hour) for hour in (-12, 1, 2, 14)] == [0, 0, 1, 1]
    assert [zone_band(balanced(bands=9), hour) for hour in (-16, -12, 14, 15)] == [0, 0, 8, 8]


def test_the_first_cohort_of_a_division_takes_whoever_comes() -> None:
    assert seated(balanced(size=4), TOKYO, NEW_YORK, BERLIN, TOKYO, NEW_YORK) == [(1, 2)] * 4 + [(2, 0)]


def test_with_each_full_cohort_another_band_has_its_own() -> None:
    assert seated(balanced(), TOKYO, BERLIN, TOKYO, NEW_YORK, BERLIN, DELHI, TOKYO, NEW_YORK) == [
        (1, 2),
        (1, 2),
        (2, 2),
        (3, 0),
        (2, 2),  # one is full, so no third may have room: the nearest, of two that are as near the first
        (4, 1),
        (5, 2),
        (3, 0),
    ]


def test_a_cohort_that_was_begun_for_nobody_in_particular_is_filled_first() -> None:
    begun = Begun(7, (Filling(7, 1, None), Filling(5, 1, 2)))
    assert seated(balanced(), TOKYO, BERLIN, TOKYO, begun=begun) == [(5, 2), (7, None), (8, 2)]


@given(
    st.integers(2, 5),
    st.integers(2, 9),
    st.lists(st.tuples(st.integers(0, 2), st.integers(-12, 14)), max_size=120),
)
def test_cohorts_fill_however_zones_are_mixed(size: int, bands: int, coming: list[tuple[int, int]]) -> None:
    """Whether they come at once or one by one: none too large, few with room, and nobody away from the own band's."""
    rules = balanced(size, bands)
    arrivals = [Arrival(*each) for each in coming]
    places = filled_near(rules, {}, arrivals)
    assert _one_by_one(rules, arrivals) == places
    sizes: Counter[tuple[int, int]] = Counter()
    band_of: dict[tuple[int, int], int | None] = {}
    for arrival, place in zip(arrivals, places, strict=True):
        chosen = (place.cohort.division, place.cohort.number)
        assert chosen[0] == arrival.division
        own = zone_band(rules, arrival.utc_hour)
        room = {key: band_of[key] for key, count in sizes.items() if key[0] == chosen[0] and count < size}
        if own in room.values():
            assert place.band == own
        sizes[chosen] += 1
        band_of[chosen] = place.band
        counts = [count for key, count in sizes.items() if key[0] == chosen[0]]
        assert max(counts) <= size
        full = counts.count(size)
        assert len(counts) - full <= min(bands, full + 1)
        assert sorted(key[1] for key in sizes if key[0] == chosen[0]) == list(range(1, len(counts) + 1))


def _one_by_one(rules: League, arrivals: list[Arrival]) -> list[Placed]:
    """With what is stored in between: the newest cohort, and those that have room."""
    sizes: dict[int, dict[int, tuple[int, int | None]]] = {}
    places = []
    for arrival in arrivals:
        known = sizes.setdefault(arrival.division, {})
        room = [Filling(n, count, band) for n, (count, band) in known.items() if count < rules.cohort_size]
        begun = {arrival.division: Begun(max(known, default=0), tuple(room))}
        (place,) = filled_near(rules, begun, [arrival])
        known[place.cohort.number] = (known.get(place.cohort.number, (0, None))[0] + 1, place.band)
        places.append(place)
    return places


def test_where_many_come_nearly_all_cohorts_are_of_one_band() -> None:
    hours = [(NEW_YORK, BERLIN, TOKYO)[n % 3] for n in range(900)]
    rules = balanced(size=30)
    members: dict[int, set[int]] = {}
    for hour, (number, _) in zip(hours, seated(rules, *hours), strict=True):
        members.setdefault(number, set()).add(hour)
    assert len(members) <= 32
    assert sum(len(zones) > 1 for zones in members.values()) <= 3


@given(st.integers(0, 9), st.integers(0, 9), st.integers(0, 2), st.integers(1, 30))
def test_a_league_has_no_division_below_the_lowest_or_above_the_highest(
    up: int, down: int, division: int, members: int
) -> None:
    rules = league(up=up, down=down)
    for place in range(1, members + 1):
        assert 0 <= division_after(division, outcome_of(rules, division, place, members)) <= 2


def test_a_cohort_is_a_segment_that_names_its_division() -> None:
    (seat,) = filled(league(), {1: (7, 3)}, [1])
    values = segment_values(cohort_segment(league(), seat))
    assert values == {"division": "silver", "cohort": "7"}
    assert division_of(league(), values) == 1


def test_divisions_come_on_top_and_change_in_no_other_way() -> None:
    assert keeps_divisions("ab", "abc")
    assert not keeps_divisions("ab", "cab")
    assert not keeps_divisions("ab", "a")
