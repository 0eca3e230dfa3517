"""RULES 6.8: who was overtaken is found by comparing two looks at the first members."""

from hypothesis import given
from hypothesis import strategies as st

from services.leaderboard.domain.tracking import Moved, Own, Spot, compared, suspects

users = st.permutations("abcdef")


def found(
    was: dict[str, Spot],
    now: dict[str, Spot],
    own: dict[str, Own] | None = None,
    elsewhere: dict[str, Spot] | None = None,
) -> list[Moved]:
    return compared(suspects(was, now), was, now, elsewhere or {}, own or {}).moved


@given(users, users)
def test_where_nobody_did_anything_everybody_who_stands_elsewhere_was_moved_by_others(
    before: list[str], after: list[str]
) -> None:
    was = {user: Spot(rank, ord(user)) for rank, user in enumerate(before, start=1)}
    now = {user: Spot(rank, ord(user)) for rank, user in enumerate(after, start=1)}
    assert [(one.user_id, one.passed_from, one.rank, one.own) for one in found(was, now)] == [
        (user, before.index(user) + 1, rank, False)
        for rank, user in enumerate(after, start=1)
        if before.index(user) + 1 != rank
    ]


def test_the_acting_user_is_told_of_with_the_entry_and_only_the_rest_follows() -> None:
    was = {"a": Spot(1, 9), "b": Spot(2, 5), "c": Spot(3, 1)}
    now = {"c": Spot(1, 10), "a": Spot(2, 9), "b": Spot(3, 5)}
    moved = found(was, now, {"c": Own(3, 1, 10)})
    assert [(one.user_id, one.previous_rank, one.passed_from, one.rank) for one in moved] == [
        ("c", 3, None, 1),
        ("a", 1, 1, 2),
        ("b", 2, 2, 3),
    ]


def test_what_others_did_after_the_users_own_entry_is_theirs() -> None:
    (c,) = found({"c": Spot(3, 1)}, {"c": Spot(2, 10)}, {"c": Own(3, 1, 10)})
    assert (c.previous_rank, c.passed_from, c.rank, c.own) == (3, 1, 2, True)


def test_of_an_entry_on_its_way_the_next_look_tells() -> None:
    was, now = {"c": Spot(3, 1)}, {"c": Spot(1, 10)}
    first = compared({"c"}, was, now, {}, {})
    assert (first.moved, first.kept) == ([], {"c": Spot(3, 1, waits=True)})
    (told,) = found(dict(first.kept), now, {"c": Own(3, 1, 10)})
    assert (told.previous_rank, told.passed_from, told.rank) == (3, None, 1)


def test_what_has_no_row_because_it_was_taken_out_is_told_by_the_second_look() -> None:
    assert found({"c": Spot(1, 10, waits=True)}, {"c": Spot(3, 1)}) == [Moved("c", 1, 3, 1, own=True)]


def test_who_was_beyond_the_depth_and_did_nothing_is_left_out() -> None:
    assert found({}, {"d": Spot(3, 1)}) == []


def test_who_fell_behind_the_depth_or_the_limit_was_moved_by_others() -> None:
    assert found({"b": Spot(2, 5)}, {}, elsewhere={"b": Spot(4, 5)}) == [Moved("b", 2, 4, 5, 2)]
    assert found({"b": Spot(2, 5)}, {}, elsewhere={"b": Spot(0, 5)}) == [Moved("b", 2, 0, 5, 2)]


def test_who_is_no_member_any_more_went_by_an_own_entry() -> None:
    assert found({"b": Spot(2, 5)}, {}) == [Moved("b", 2, 0, 5, own=True)]
