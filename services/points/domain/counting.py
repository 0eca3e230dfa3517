"""How often a metric trigger is due: crossings of multiples of X by the high-water mark (RULES 2.5, 5.2).

All that has arrived is summed in the order of the events' times. Where the sum passes a multiple of X for the first
time, the trigger is due, and the award belongs to the event that did it. An event that arrives late can move those
instants. What was granted before stays, on its date: only when more is due than was granted is the difference
granted, on those instants that have no award yet, the latest where there are more of them than are needed. So nothing
is clawed back by a negative event, and the number of awards is the same in every order of arrival.

Two cases need only the sums. An event that is the newest of all can cross only by itself. And where every event
contributes whole multiples of X ("10 points for every 1"), each crosses its own multiples whenever it arrives.
"""

from bisect import bisect_left
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from services.points.domain.definitions import Boost
from services.points.domain.facts import Instant

_LARGEST: Final = 2**63 - 1
_MOMENT: Final = timedelta(microseconds=1)


class HistoryNeeded(Exception):
    """More of the past decides this than was loaded."""


class Mark(Struct, frozen=True):
    """An event that a trigger counts."""

    instant: Instant
    contribution_micros: int
    every_micros: int
    """The X that applied when it came."""
    amount: int
    """Points each time, that applied when it came."""
    boosts: tuple[Boost, ...] = ()
    """Those that multiply what is awarded for it."""
    due: int = 0
    """How many multiples are crossed with it."""
    granted: int = 0
    """How often it has been awarded."""


class Timeline(Struct, frozen=True):
    """How far a trigger has counted for a user."""

    accumulated_micros: int = 0
    """The sum of all contributions."""
    high_micros: int = 0
    """The highest that the sum has been in the order of the events' times, never below zero."""
    due_count: int = 0
    """How many multiples are crossed in that order."""
    granted_count: int = 0
    """How often it has awarded: never less."""
    every_micros: int = 0
    """The X that was last counted with."""
    irregular: bool = False
    """It counted something below zero, with more than one X, or to the end of the numbers: then only a walk through
    all events says how high the sum was at a time. Else mark and sum are the same, and granted is what is due.
    """
    fractional: bool = False
    """It counted something that is no multiple of X: then what an event crosses depends on those before it."""
    newest_time: datetime | None = None
    """When the newest event occurred that it ever counted."""
    late_position: int = 0
    """The newest arrival that was not the newest event, once that made a difference: while it was fractional."""
    marks: tuple[Mark, ...] = ()
    """The events that are known one by one, in the order of their times: all since `known_since`."""
    known_since: datetime | None = None
    """None: all are known."""
    base_accumulated_micros: int = 0
    """The sum before the first of `marks`."""
    base_high_micros: int = 0
    """The highest sum before the first of `marks`."""


class Crossing(Struct, frozen=True):
    """Awards that are granted."""

    mark: Mark
    times: int


def stored(timeline: Timeline) -> Timeline:
    """A timeline as it is loaded: what is newer than all that it counted can be placed, nothing else."""
    return _without_marks(timeline)


def count(timeline: Timeline, mark: Mark, position: int) -> tuple[Timeline, tuple[Crossing, ...]]:
    """The timeline with another event, and what is granted for it. Raises `HistoryNeeded`."""
    if is_whole(timeline, mark.contribution_micros, mark.every_micros):
        return _count_whole(timeline, mark)
    order = mark.instant.order
    if timeline.known_since is not None and mark.instant.occur_time < timeline.known_since:
        raise HistoryNeeded
    if timeline.marks and order < timeline.marks[-1].instant.order:
        return _count_late(timeline, mark, position)
    accumulated = _bounded(timeline.accumulated_micros + mark.contribution_micros)
    high = max(timeline.high_micros, accumulated)
    due = high // mark.every_micros - timeline.high_micros // mark.every_micros
    times = max(0, timeline.due_count + due - timeline.granted_count)
    mark = replace(mark, due=due, granted=times)
    moved = replace(
        timeline,
        accumulated_micros=accumulated,
        high_micros=high,
        due_count=timeline.due_count + due,
        granted_count=timeline.granted_count + times,
        every_micros=mark.every_micros,
        irregular=_irregular(timeline, mark, accumulated),
        fractional=timeline.fractional or mark.contribution_micros % mark.every_micros != 0,
        newest_time=mark.instant.occur_time,
        marks=(*timeline.marks, mark),
    )
    return moved, ((Crossing(mark, times),) if times else ())


def is_whole(timeline: Timeline, contribution_micros: int, every_micros: int) -> bool:
    """Whether an event crosses exactly the multiples that it contributes, wherever it stands among the others."""
    return (
        not (timeline.fractional or timeline.irregular)
        and contribution_micros >= 0
        and contribution_micros % every_micros == 0
        and timeline.every_micros in (0, every_micros)
        and timeline.accumulated_micros + contribution_micros < _LARGEST
    )


def placed(timeline: Timeline, marks: Sequence[Mark], since: datetime | None) -> Timeline:
    """The timeline with all events since an instant one by one, in the order of their times; None: all there are."""
    if since is None:
        accumulated = high = 0
    else:
        # Only for a timeline that is regular: mark and sum are the same.
        accumulated = high = timeline.accumulated_micros - sum(mark.contribution_micros for mark in marks)
    return replace(
        timeline,
        marks=walk(accumulated, high, tuple(marks))[2],
        known_since=since,
        base_accumulated_micros=accumulated,
        base_high_micros=high,
    )


def settled(timeline: Timeline, until: datetime | None) -> Timeline:
    """Without the marks of events before this instant, among which nothing will arrive; None: before the newest."""
    if until is None:
        until = timeline.marks[-1].instant.occur_time
    kept = bisect_left(timeline.marks, until, key=lambda mark: mark.instant.occur_time)
    if not kept:
        return timeline
    accumulated, high, _ = walk(
        timeline.base_accumulated_micros, timeline.base_high_micros, timeline.marks[:kept]
    )
    return replace(
        timeline,
        marks=timeline.marks[kept:],
        known_since=until,
        base_accumulated_micros=accumulated,
        base_high_micros=high,
    )


def walk(accumulated: int, high: int, marks: tuple[Mark, ...]) -> tuple[int, int, tuple[Mark, ...]]:
    """The sum, its high-water mark, and the marks with what each of them crosses."""
    walked = []
    for mark in marks:
        accumulated = _bounded(accumulated + mark.contribution_micros)
        highest = max(high, accumulated)
        due = highest // mark.every_micros - high // mark.every_micros
        walked.append(mark if mark.due == due else replace(mark, due=due))
        high = highest
    return accumulated, high, tuple(walked)


def _count_whole(timeline: Timeline, mark: Mark) -> tuple[Timeline, tuple[Crossing, ...]]:
    contribution, time = mark.contribution_micros, mark.instant.occur_time
    times = contribution // mark.every_micros
    mark = replace(mark, due=times, granted=times)
    marks = timeline.marks
    base_accumulated, base_high = timeline.base_accumulated_micros, timeline.base_high_micros
    if timeline.known_since is not None and time < timeline.known_since:
        base_accumulated += contribution
        base_high += contribution
    elif not marks or marks[-1].instant.order < mark.instant.order:
        marks = (*marks, mark)
    else:
        index = bisect_left(marks, mark.instant.order, key=lambda known: known.instant.order)
        marks = (*marks[:index], mark, *marks[index:])
    moved = replace(
        timeline,
        accumulated_micros=timeline.accumulated_micros + contribution,
        high_micros=timeline.high_micros + contribution,
        due_count=timeline.due_count + times,
        granted_count=timeline.granted_count + times,
        every_micros=mark.every_micros,
        newest_time=time if timeline.newest_time is None else max(timeline.newest_time, time),
        marks=marks,
        base_accumulated_micros=base_accumulated,
        base_high_micros=base_high,
    )
    return moved, ((Crossing(mark, times),) if times else ())


def _count_late(timeline: Timeline, mark: Mark, position: int) -> tuple[Timeline, tuple[Crossing, ...]]:
    index = bisect_left(timeline.marks, mark.instant.order, key=lambda known: known.instant.order)
    among = (*timeline.marks[:index], mark, *timeline.marks[index:])
    accumulated, high, marks = walk(timeline.base_accumulated_micros, timeline.base_high_micros, among)
    due_count = (
        timeline.due_count + sum(known.due for known in marks) - sum(known.due for known in timeline.marks)
    )
    times = max(0, due_count - timeline.granted_count)
    granted, crossings = _grant_latest(marks, times)
    if sum(crossing.times for crossing in crossings) < times:
        if timeline.known_since is not None:
            raise HistoryNeeded
        raise AssertionError("more is granted than is due")
    return (
        replace(
            timeline,
            accumulated_micros=accumulated,
            high_micros=high,
            due_count=due_count,
            granted_count=timeline.granted_count + times,
            every_micros=mark.every_micros,
            irregular=_irregular(timeline, mark, accumulated),
            fractional=timeline.fractional or mark.contribution_micros % mark.every_micros != 0,
            late_position=position,
            marks=granted,
        ),
        crossings,
    )


def _grant_latest(marks: tuple[Mark, ...], times: int) -> tuple[tuple[Mark, ...], tuple[Crossing, ...]]:
    """The marks with so many more awards, on the latest of those that are due and not granted."""
    left = list(marks)
    crossings: list[Crossing] = []
    for index in reversed(range(len(left))):
        if not times:
            break
        open_times = min(times, left[index].due - left[index].granted)
        if open_times > 0:
            times -= open_times
            left[index] = replace(left[index], granted=left[index].granted + open_times)
            crossings.append(Crossing(left[index], open_times))
    return tuple(left), tuple(reversed(crossings))


def _irregular(timeline: Timeline, mark: Mark, accumulated: int) -> bool:
    return (
        timeline.irregular
        or mark.contribution_micros < 0
        or timeline.every_micros not in (0, mark.every_micros)
        or accumulated == _LARGEST
    )


def _without_marks(timeline: Timeline) -> Timeline:
    newest = timeline.newest_time
    return replace(
        timeline,
        marks=(),
        known_since=None if newest is None else newest + _MOMENT,
        base_accumulated_micros=timeline.accumulated_micros,
        base_high_micros=timeline.high_micros,
    )


def _bounded(micros: int) -> int:
    """The ledger of events keeps sums within 64 bits; what comes past it meets a wall, not an error."""
    return max(-_LARGEST, min(_LARGEST, micros))
