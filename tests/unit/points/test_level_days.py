"""RULES 5.8: what is kept of a date, of all users and of each tenant's own."""

from datetime import date

from services.points.domain.definitions import Level, PointsSystem
from services.points.level_days import rows_of

DAY = date(2025, 3, 1)


def test_tenants_users_are_counted_with_all_and_by_themselves() -> None:
    system = PointsSystem("xp", levels=(Level("low", 10), Level("high", 50)))
    counted = {"": {0: 2, 2: 1}, "acme": {1: 4}, "bolt": {0: 1, 1: 1}}
    described = ("xp", DAY, ["low", "high"], [10, 50])
    rows = [
        (tenant, numbers, (key, day, *levels))
        for key, tenant, day, *levels, numbers in rows_of(system, DAY, counted)
    ]
    assert rows == [
        ("", [3, 5, 1], described),
        ("acme", [0, 4, 0], described),
        ("bolt", [1, 1, 0], described),
    ]


def test_a_system_without_users_or_levels_is_counted_too() -> None:
    assert rows_of(PointsSystem("xp"), DAY, {}) == [("xp", "", DAY, [], [], [0])]
