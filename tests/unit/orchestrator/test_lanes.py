"""Which groups are sent again side by side."""

from datetime import UTC, datetime
from uuid import UUID

from services.orchestrator.findings import Act, Finding
from services.orchestrator.healing import LANES, lanes
from services.orchestrator.saga import Step

NOON = datetime(2025, 6, 30, 12, tzinfo=UTC)
USERS = [f"user-{number}" for number in range(40)]


def findings(users: list[str]) -> list[Finding]:
    return [
        Finding(UUID(int=number), Act.APPLY, (Step.POINTS,), user, NOON) for number, user in enumerate(users)
    ]


def test_each_user_is_in_one_lane_and_in_order_there() -> None:
    group = findings([*USERS, *reversed(USERS), *USERS])
    made = lanes(group, {})
    assert 1 < len(made) <= LANES
    assert sorted(finding.entry_id for lane in made for finding in lane) == [each.entry_id for each in group]
    for lane in made:
        assert [finding.entry_id for finding in lane] == sorted(finding.entry_id for finding in lane)
    of_each = {user: [lane for lane in made if any(each.user_id == user for each in lane)] for user in USERS}
    assert all(len(own) == 1 for own in of_each.values())


def test_who_shares_an_entry_with_somebody_is_in_the_lane_of_all_who_do() -> None:
    group = findings([*USERS, *USERS])
    shared = {UUID(int=3): ["user-7"], UUID(int=43): ["user-21"], UUID(int=9): ["user-30"]}
    made = lanes(group, shared)
    for users in (("user-3", "user-7", "user-21"), ("user-9", "user-30")):
        held = [lane for lane in made if {each.user_id for each in lane} & set(users)]
        assert len(held) == 1
        assert {each.user_id for each in held[0]} >= set(users)
