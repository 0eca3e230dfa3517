"""States that are kept in memory: which, how many, and for how long."""

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.postgres.errors import StateMoved
from shared.recent import LONGEST_REST, RecentStates

USERS = st.sampled_from(["ada", "bob", "cy", "dee", "eve"])


def in_life(life: int, *users: str) -> dict[str, int]:
    return dict.fromkeys(users, life)


def recent_states(limit: int) -> RecentStates[int]:
    recent: RecentStates[int] = RecentStates(limit)
    recent.configuration_version = 1
    return recent


def test_what_was_kept_is_known_until_it_is_forgotten() -> None:
    recent = recent_states(2)
    recent.keep({"ada": 1}, in_life(1, "ada"))
    assert recent.known(in_life(1, "ada", "bob")) == {"ada": 1}
    recent.keep({"ada": 2}, in_life(1, "ada"))
    assert recent.known(in_life(1, "ada")) == {"ada": 2}
    recent.forget(["ada", "bob"])
    assert recent.known(in_life(1, "ada")) == {}


def test_nothing_is_known_once_all_is_forgotten() -> None:
    recent = recent_states(2)
    recent.keep({"ada": 1, "bob": 1}, in_life(1, "ada", "bob"))
    recent.forget_all()
    assert recent.known(in_life(1, "ada", "bob")) == {}


def test_who_was_not_used_for_longest_goes_first() -> None:
    recent = recent_states(2)
    recent.keep({"ada": 1}, in_life(1, "ada"))
    recent.keep({"bob": 1}, in_life(1, "bob"))
    recent.known(in_life(1, "ada"))
    recent.keep({"cy": 1}, in_life(1, "cy"))
    assert recent.known(in_life(1, "ada", "bob", "cy")) == {"ada": 1, "cy": 1}


def test_a_limit_of_nothing_keeps_nothing() -> None:
    recent = recent_states(0)
    recent.keep({"ada": 1}, in_life(1, "ada"))
    assert recent.known(in_life(1, "ada")) == {}


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
            recent.keep({user: value}, in_life(1, user))
            last[user] = value
        elif step == "forget":
            recent.forget([user])
            last.pop(user, None)
        for found, state in recent.known(in_life(1, user)).items():
            assert last[found] == state
        assert len(recent) <= limit


def test_a_user_is_known_in_the_life_that_was_kept_and_in_no_other() -> None:
    recent = recent_states(2)
    recent.keep({"ada": 5, "bob": 7}, {"ada": 1, "bob": 1})
    assert recent.known({"ada": 2, "bob": 1}) == {"bob": 7}
    recent.keep({"ada": 6}, {"ada": 2})
    assert recent.known(in_life(2, "ada", "bob")) == {"ada": 6}
    assert recent.known(in_life(1, "ada", "bob")) == {"bob": 7}


class Stored:
    """What a database holds of users: by version, which begins anew with every life."""

    def __init__(self) -> None:
        self.states: dict[str, tuple[int, tuple[int, ...]]] = {}
        """The version of each, and the events of which the state is made."""

    def save(self, user: str, before: int, after: tuple[int, ...]) -> None:
        """As the services do: what is built on another version is refused."""
        version, _ = self.states.get(user, (0, ()))
        if version != before:
            raise asyncpg.SerializationError
        self.states[user] = (version + 1, after)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["event", "event", "event", "deletion"]),
            st.integers(0, 1),
            st.sampled_from(["ada", "bob"]),
        ),
        max_size=40,
    )
)
def test_users_are_what_happened_in_their_lives_whichever_replica_was_told(
    steps: list[tuple[str, int, str]],
) -> None:
    stored = Stored()
    replicas: list[RecentStates[tuple[int, tuple[int, ...]]]] = [RecentStates(10), RecentStates(10)]
    lives = {"ada": 0, "bob": 0}
    happened: dict[str, tuple[int, ...]] = {"ada": (), "bob": ()}
    for number, (step, replica, user) in enumerate(steps):
        if step == "deletion":
            stored.states.pop(user, None)
            lives[user], happened[user] = number + 1, ()
            continue
        happened[user] += (number,)
        recent = replicas[replica]
        for _ in range(2):
            recent.configuration_version = 1
            kept = recent.known({user: lives[user]}).get(user)
            version, events = kept or stored.states.get(user, (0, ()))
            try:
                with recent.stored([user], guessed=kept is not None):
                    stored.save(user, version, (*events, number))
            except asyncpg.SerializationError:
                continue
            recent.keep({user: stored.states[user]}, lives)
            break
        assert stored.states[user][1] == happened[user]


def test_nobody_is_known_while_the_definitions_have_to_be_read() -> None:
    recent = recent_states(2)
    recent.keep({"ada": 1}, in_life(1, "ada"))
    recent.configuration_version = None
    assert recent.known(in_life(1, "ada")) == {}


def test_what_could_not_be_stored_is_forgotten_and_read_again_with_the_definitions() -> None:
    recent = recent_states(2)
    recent.keep({"ada": 1, "bob": 1}, in_life(1, "ada", "bob"))
    with pytest.raises(TimeoutError), recent.stored(["ada"], guessed=True):
        raise TimeoutError
    assert recent.configuration_version is None
    recent.configuration_version = 2
    assert recent.known(in_life(1, "ada", "bob")) == {"bob": 1}


def test_a_failure_on_a_guess_is_decided_again_and_one_without_stays_what_it_is() -> None:
    recent = recent_states(2)
    with pytest.raises(StateMoved), recent.decided_and_stored(["ada"], guessed=True):
        raise KeyError("bob")
    with pytest.raises(KeyError), recent.decided_and_stored(["ada"], guessed=False):
        raise KeyError("bob")


def batches_until_known(recent: RecentStates[int]) -> int:
    """How many batches are read before the next guess."""
    recent.configuration_version = 1
    recent.keep({"ada": 1}, in_life(1, "ada"))
    count = 0
    while not recent.known(in_life(1, "ada")):
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
