"""An open loop's schedule is fixed, complete and as fast as asked."""

from itertools import pairwise

import pytest

from deploy.bench.schedule import Phase, arrivals


def test_a_schedule_is_the_same_for_the_same_seed() -> None:
    phases = [Phase(100.0, 1.0)]
    assert list(arrivals(phases, 1)) == list(arrivals(phases, 1))
    assert list(arrivals(phases, 1)) != list(arrivals(phases, 2))


def test_instants_ascend_and_stay_inside_their_phases() -> None:
    due = list(arrivals([Phase(200.0, 1.0), Phase(600.0, 0.5), Phase(200.0, 1.0)], 3))
    assert [instant for _, instant in due] == sorted(instant for _, instant in due)
    bounds = [(0.0, 1.0), (1.0, 1.5), (1.5, 2.5)]
    assert all(bounds[phase][0] <= instant < bounds[phase][1] for phase, instant in due)


@pytest.mark.parametrize("per_second", [50.0, 2_000.0])
def test_each_phase_has_the_rate_that_was_asked_for(per_second: float) -> None:
    count = sum(1 for _ in arrivals([Phase(per_second, 100.0)], 7))
    expected = 100 * per_second
    assert abs(count - expected) < 5 * expected**0.5


def test_gaps_vary_as_those_of_independent_callers() -> None:
    instants = [instant for _, instant in arrivals([Phase(100.0, 100.0)], 5)]
    gaps = [later - earlier for earlier, later in pairwise(instants)]
    assert sum(gap > 0.01 for gap in gaps) / len(gaps) == pytest.approx(1 / 2.71828, abs=0.02)
