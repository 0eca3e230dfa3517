"""Which achievements hang on which others: the levels of composites, and circles among them (RULES 4.3)."""

from collections.abc import Mapping, Sequence


def levels_of(prerequisites: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """How far above what is earned by itself each composite stands, in ascending order: 1 for one whose prerequisites
    are no composites. Those in a circle, and all above one, have no level. `prerequisites`: of each composite.
    """
    levels: dict[str, int] = {}
    left = dict(prerequisites)
    level = 0
    while True:
        level += 1
        found = [key for key, wanted in left.items() if not any(each in left for each in wanted)]
        if not found:
            return levels
        for key in sorted(found):
            levels[key] = level
            del left[key]


def in_circles(prerequisites: Mapping[str, Sequence[str]]) -> set[str]:
    """The composites that are a prerequisite of themselves, by whatever detour."""
    levels = levels_of(prerequisites)
    left = {key: wanted for key, wanted in prerequisites.items() if key not in levels}
    while True:
        mentioned = {each for wanted in left.values() for each in wanted}
        above = left.keys() - mentioned
        if not above:
            return set(left)
        for key in above:
            del left[key]
