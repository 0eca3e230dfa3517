"""Who travels together, and when."""

from hypothesis import given
from hypothesis import strategies as st

from services.orchestrator.group_queue import GroupLimits, GroupQueue

LIMITS = GroupLimits(largest=4, in_flight=2, least_beside_others=2, ample=3)


def waiting(*items: str, limits: GroupLimits = LIMITS) -> GroupQueue[str]:
    """A queue in which these wait; the first letter is the user."""
    queue: GroupQueue[str] = GroupQueue(limits, lambda item: (item[0],))
    for item in items:
        queue.add(item)
    return queue


def test_a_lone_event_leaves_alone_and_at_once() -> None:
    assert waiting("a1").next_group() == ["a1"]


def test_nobody_leaves_an_empty_queue() -> None:
    assert waiting().next_group() == []


def test_all_who_wait_leave_together_in_the_order_of_arrival() -> None:
    queue = waiting("a1", "b1", "a2")
    assert queue.next_group() == ["a1", "b1", "a2"]
    assert len(queue) == 0


def test_a_group_has_a_largest_size() -> None:
    queue = waiting("a1", "b1", "c1", "d1", "e1")
    assert queue.next_group() == ["a1", "b1", "c1", "d1"]
    assert len(queue) == 1


def test_beside_another_group_only_a_group_of_some_size_leaves() -> None:
    queue = waiting("a1")
    first = queue.next_group()
    queue.add("b1")
    assert queue.next_group() == []
    queue.add("c1")
    assert queue.next_group() == ["b1", "c1"]
    queue.back(first)


def test_beside_a_larger_group_only_a_group_as_large_leaves() -> None:
    queue = waiting("a1", "b1", "c1")
    first = queue.next_group()
    queue.add("d1")
    queue.add("e1")
    assert queue.next_group() == []
    queue.add("f1")
    assert queue.next_group() == ["d1", "e1", "f1"]
    queue.back(first)
    queue.add("g1")
    queue.add("h1")
    assert queue.next_group() == []


def test_beside_any_group_an_ample_one_leaves() -> None:
    queue = waiting("a1", "b1", "c1", "d1")
    queue.next_group()
    for item in ("e1", "f1"):
        queue.add(item)
    assert queue.next_group() == []
    queue.add("g1")
    assert queue.next_group() == ["e1", "f1", "g1"]


def test_no_more_groups_are_under_way_than_may_be() -> None:
    queue = waiting(*"abcdefghijkl")
    first = queue.next_group()
    queue.next_group()
    assert queue.next_group() == []
    queue.back(first)
    assert queue.next_group() == ["i", "j", "k", "l"]


def test_events_of_a_user_who_is_under_way_wait_and_are_passed() -> None:
    queue = waiting("a1")
    first = queue.next_group()
    for item in ("a2", "b1", "a3", "c1"):
        queue.add(item)
    assert queue.next_group() == ["b1", "c1"]
    queue.back(first)
    assert queue.next_group() == ["a2", "a3"]


def test_a_group_that_would_be_too_small_without_those_who_are_held_up_stays_as_it_was() -> None:
    queue = waiting("a1")
    first = queue.next_group()
    for item in ("a2", "b1", "a3"):
        queue.add(item)
    assert queue.next_group() == []
    queue.back(first)
    assert queue.next_group() == ["a2", "b1", "a3"]


def test_who_is_put_back_leaves_first() -> None:
    queue = waiting("c1")
    queue.put_back(["a1", "b1"])
    assert queue.next_group() == ["a1", "b1", "c1"]


@given(
    st.lists(st.sampled_from("abcd"), max_size=40),
    st.lists(st.booleans(), max_size=60),
    st.builds(GroupLimits, st.integers(1, 5), st.integers(1, 3), st.integers(1, 3), st.integers(1, 5)),
)
def test_everybody_leaves_once_in_their_user_s_order_and_no_user_is_in_two_groups(
    users: list[str], choices: list[bool], limits: GroupLimits
) -> None:
    items = [f"{user}{number:02}" for number, user in enumerate(users)]
    queue = waiting(*items, limits=limits)
    under_way: list[list[str]] = []
    left: list[str] = []
    for leaves in [*choices, *([True, False] * (len(items) + 5))]:
        if leaves and (group := queue.next_group()):
            under_way.append(group)
            left += group
            assert len(group) <= limits.largest
            assert len(under_way) <= limits.in_flight
            travelling = [{item[0] for item in each} for each in under_way]
            assert sum(map(len, travelling)) == len(set().union(*travelling))
        elif not leaves and under_way:
            queue.back(under_way.pop(0))
    assert sorted(left) == sorted(items)
    for user in "abcd":
        own = [item for item in left if item[0] == user]
        assert own == sorted(own)
