"""States that are kept in memory: which, how many, and for how long."""

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.postgres.errors import StateMoved
from shared.recent import LONGEST_REST, RecentStates

USERS = st.sampled_from(["ada", "bob", "cy", "dee", "eve"])


def recent_states(limit: int) -> RecentStates[int]:
    recent: RecentStates[int] = RecentStates(limit)
    recent.configuration_version = 1
    return recent


def test_what_was_kept_is_known_until_it_is_forgotten() -> None:
    recent = recent_states(2)
    recent.keep({"ada": 1})
    assert recent.known(["ada", "bob"]) == {"ada": 1}
    recent.keep({"ada": 2})
    assert recent.known(["ada"]) == {"ada": 2}
    recent.forget(["ada", "bob"])
    assert recent.known(["ada"]) == {}


def test_nothing_is_known_once_all_is_forgotten() -> None:
    recent = recent_states(2)
    recent.keep({"ada": 1, "bob": 1})
    recent.forget_all()
    assert recent.known(["ada", "bob"]) == {}


def test_who_was_not_used_for_longest_goes_first() -> None:
    recent = recent_states(2)
    recent.keep({"ada": 1})
    recent.keep({"bob": 1})
    recent.known(["ada"])
    recent.keep({"cy": 1})
    assert recent.known(["ada", "bob", "cy"]) == {"ada": 1, "cy": 1}


def test_a_limit_of_nothing_keeps_nothing() -> None:
    recent = recent_states(0)
    recent.keep({"ada": 1})
    assert recent.known(["ada"]) == {}


@given(
    st.integers(0, 3), st.lists(st.tuples(st.sampled_from(["keep", "known", "forget"]), USERS, st.integers()))
)
def test_what_is_known_is_the_last_that_was_kept_and_never_more_than_the_limit(
    limit: int, steps: list[tuple[str, str, int]]
) -> None:
    recent = recent_states(limit)
    last: dict[str, int] = {}
    for step, user, value in steps:
        if step == "keep":
            recent.keep({user: value})
            last[user] = value
        elif step == "forget":
            recent.forget([user])
            last.pop(user, None)
        for found, state in recent.known([user]).items():
            assert last[found] == state
        assert len(recent) <= limit


def test_nobody_is_known_while_the_definitions_have_to_be_read() -> None:
    recent = recent_states(2)
    recent.keep({"ada": 1})
    recent.configuration_version = None
    assert recent.known(["ada"]) == {}


def test_what_could_not_be_stored_is_forgotten_and_read_again_with_the_definitions() -> None:
    recent = recent_states(2)
    recent.keep({"ada": 1, "bob": 1})
    with pytest.raises(TimeoutError), recent.stored(["ada"], guessed=True):
        raise TimeoutError
    assert recent.configuration_version is None
    recent.configuration_version = 2
    assert recent.known(["ada", "bob"]) == {"bob": 1}


def test_a_failure_on_a_guess_is_decided_again_and_one_without_stays_what_it_is() -> None:
    recent = recent_states(2)
    with pytest.raises(StateMoved), recent.decided_and_stored(["ada"], guessed=True):
        raise KeyError("bob")
    with pytest.raises(KeyError), recent.decided_and_stored(["ada"], guessed=False):
        raise KeyError("bob")


def batches_until_known(recent: RecentStates[int]) -> int:
    """How many batches are read before the next guess."""
    recent.configuration_version = 1
    recent.keep({"ada": 1})
    count = 0
    while not recent.known(["ada"]):
        count += 1
    return count


def refuse(recent: RecentStates[int]) -> None:
    with pytest.raises(asyncpg.SerializationError), recent.stored(["ada"], guessed=True):
        raise asyncpg.SerializationError


def test_guesses_that_are_refused_again_and_again_rest_longer_each_time_up_to_a_bound() -> None:
    recent = recent_states(2)
    rests = []
    for _ in range(10):
        refuse(recent)
        rests.append(batches_until_known(recent))
    assert rests[:4] == [1, 3, 7, 15]
    assert rests[-1] == LONGEST_REST


def test_guesses_that_hold_end_the_resting() -> None:
    recent = recent_states(2)
    for _ in range(10):
        refuse(recent)
        batches_until_known(recent)
    for _ in range(8):
        with recent.stored(["ada"], guessed=True):
            pass
    refuse(recent)
    assert batches_until_known(recent) == 1
