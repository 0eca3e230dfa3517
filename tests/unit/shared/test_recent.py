"""States that are kept in memory: which, how many, and for how long."""

from hypothesis import given
from hypothesis import strategies as st

from shared.recent import RecentStates

USERS = st.sampled_from(["ada", "bob", "cy", "dee", "eve"])


def test_what_was_kept_is_known_until_it_is_forgotten() -> None:
    recent: RecentStates[int] = RecentStates(2)
    recent.keep({"ada": 1})
    assert recent.known(["ada", "bob"]) == {"ada": 1}
    recent.keep({"ada": 2})
    assert recent.known(["ada"]) == {"ada": 2}
    recent.forget(["ada", "bob"])
    assert recent.known(["ada"]) == {}


def test_who_was_not_used_for_longest_goes_first() -> None:
    recent: RecentStates[int] = RecentStates(2)
    recent.keep({"ada": 1})
    recent.keep({"bob": 1})
    recent.known(["ada"])
    recent.keep({"cy": 1})
    assert recent.known(["ada", "bob", "cy"]) == {"ada": 1, "cy": 1}


def test_a_limit_of_nothing_keeps_nothing() -> None:
    recent: RecentStates[int] = RecentStates(0)
    recent.keep({"ada": 1})
    assert recent.known(["ada"]) == {}


@given(
    st.integers(0, 3), st.lists(st.tuples(st.sampled_from(["keep", "known", "forget"]), USERS, st.integers()))
)
def test_what_is_known_is_the_last_that_was_kept_and_never_more_than_the_limit(
    limit: int, steps: list[tuple[str, str, int]]
) -> None:
    recent: RecentStates[int] = RecentStates(limit)
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
