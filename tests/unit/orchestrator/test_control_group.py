"""RULES 2.6: who is put in the control group."""

from services.orchestrator.domain import Standing, standing_of

USERS = [f"user-{number}" for number in range(2_000)]


def controls(ratio: float) -> set[str]:
    return {user for user in USERS if standing_of(user, ratio) is Standing.CONTROL}


def test_the_group_is_as_large_as_is_wanted() -> None:
    assert controls(0) == set()
    assert controls(1) == set(USERS)
    assert 150 < len(controls(0.1)) < 250


def test_a_ratio_that_grows_takes_nobody_out() -> None:
    assert controls(0.1) < controls(0.2) < controls(0.5)
