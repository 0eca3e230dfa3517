"""The rules of streaks once more, as slowly and obviously as possible: one local date after another.

Shares no code with the service: it is what the fold is held against.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from functools import cache, cached_property
from itertools import pairwise
from zoneinfo import ZoneInfo

DAY = timedelta(days=1)
REASONS = ("INITIAL", "ACCUMULATION", "MANUAL", "CONSUMED", "REFUNDED")


@dataclass(frozen=True)
class SlowRules:
    """A streak's definition, in plain values."""

    frequency: str
    thresholds: dict[str, int]
    all_metrics: bool = False
    days_off: frozenset[int] = frozenset()
    initial: int = 0
    earn: int = 0
    every: int = 0
    maximum: int = 0
    week_start: int = 0
    amnesties: tuple[tuple[datetime, datetime, datetime], ...] = ()
    """Each from when to when, and when it was declared."""
    earlier: tuple[tuple[datetime, "SlowRules"], ...] = ()
    """What they were, each until an instant."""
    off: bool = False
    day_start: int = 0
    """In minutes after midnight."""


@dataclass(frozen=True, order=True)
class SlowFact:
    """An event, ordered by when it happened and then by its id."""

    time: datetime
    entry: int
    metric: str = field(compare=False)
    value: int = field(compare=False)
    zone: str = field(compare=False)
    arrival: datetime | None = field(default=None, compare=False)

    start: int = field(default=0, compare=False)
    """When days begin, in minutes after midnight."""

    @cached_property
    def wall_day(self) -> date:
        return self.time.astimezone(ZoneInfo(self.zone)).date()

    @cached_property
    def day(self) -> date:
        return day_at(self.time, self.zone, self.start)

    @property
    def arrival_day(self) -> date:
        """The local date on which it arrived: its own, where nothing else is said."""
        return max(self.day, day_at(self.arrival, self.zone, self.start)) if self.arrival else self.day


@dataclass(frozen=True)
class SlowByHand:
    """What was done by hand: freezes by day, dates by first and last, resets by time, entry and day."""

    grants: tuple[tuple[date, int], ...] = ()
    pauses: tuple[tuple[date, date], ...] = ()
    resets: tuple[tuple[datetime, int, date], ...] = ()
    restores: tuple[tuple[date, date], ...] = ()
    overrides: tuple[tuple[datetime, int, date, "SlowOverride"], ...] = ()
    """By time, entry and day."""


@dataclass(frozen=True)
class SlowOverride:
    """What a user wants otherwise; None: as the streak has it."""

    all_metrics: bool | None = None
    thresholds: dict[str, int] | None = None
    days_off: frozenset[int] | None = None
    off: bool = False


NOTHING = SlowByHand()


@dataclass
class SlowResult:
    periods: list[tuple[date, date, str, int, datetime]] = field(default_factory=list)
    ledger: list[tuple[date, str, int]] = field(default_factory=list)
    length: int = 0
    longest: int = 0
    balance: int = 0
    runs: list[int] = field(default_factory=list)
    reaches: dict[date, "SlowFact"] = field(default_factory=dict)
    """The event with which each qualified period did, by its first date."""
    first_reaches: dict[int, "SlowFact"] = field(default_factory=dict)
    """The event with which each length was first reached."""


def slow_fold(
    rules: SlowRules, facts: Sequence[SlowFact], now: datetime, by_hand: SlowByHand = NOTHING
) -> SlowResult:
    result = SlowResult()
    everything = sorted(facts)

    newest_first = [(fact, start_of(rules, fact.day)) for fact in reversed(everything)]

    @cache
    def zone_of(start: date) -> str:
        """The zone in which a period closes."""
        return next((fact.zone for fact, begun in newest_first if begun <= start), everything[0].zone)

    @cache
    def asked_from(start: date) -> SlowRules:
        return asked_in(rules, by_hand, start, zone_of(start))

    def asked(day: date) -> SlowRules:
        return asked_from(start_of(rules, day))

    facts = [
        fact
        for fact in everything
        if fact.metric in asked(fact.day).thresholds
        and not asked(fact.day).off
        and not any(
            (fact.time, fact.entry) < (time, entry) and start_of(rules, fact.day) >= start_of(rules, day)
            for time, entry, day in by_hand.resets
        )
    ]
    if not facts:
        return result
    by_period: dict[date, list[SlowFact]] = defaultdict(list)
    for fact in facts:
        by_period[start_of(rules, fact.day)].append(fact)
    reaches = {start: reach(asked(start), group) for start, group in by_period.items()}
    result.reaches = {start: fact for start, fact in reaches.items() if fact is not None}
    qualified = sorted(result.reaches)
    skipped = travelled(rules, qualified, by_period)
    origin = facts[0].day
    latest = max([fact.day for fact in facts] + [day for _, _, day in by_hand.resets])
    today = latest
    while begins(today + DAY, everything[-1].zone, rules.day_start) <= now:
        today += DAY

    alive = was_alive = False
    returned = 0
    """Freezes that were spent since the last qualified period and given back; -1: by what was known it had ended."""
    day = start_of(rules, min(fact.day for fact in facts))
    start = end = day - DAY
    while day <= today:
        grant(asked(day), result, origin, day, by_hand)
        if day > end:
            start, end = day, end_of(rules, day)
        zone = zone_of(start)
        resets = sorted(reset for reset in by_hand.resets if start_of(rules, reset[2]) == start)
        if day == start and resets and alive:
            alive = False
            result.length = 0
            if start not in result.reaches:
                result.periods.append((start, end, "RESET", 0, resets[0][0]))
        if day == start:
            was_alive = alive
        if day == start and start in result.reaches:
            result.length += 1
            alive, returned = True, 0
            reached = result.reaches[start]
            result.periods.append((start, end, "QUALIFIED", result.length, reached.time))
            result.first_reaches.setdefault(result.length, reached)
            if result.length == 1:
                result.runs.append(0)
            result.runs[-1] += 1
        if day == end and end < start_of(rules, today) and start not in result.reaches and alive:
            status = missed(asked(start), result, start, zone, start in skipped, by_hand)
            if status == "FROZEN":
                result.balance -= 1
                result.ledger.append((end, "CONSUMED", -1))
            if status == "EXCUSED":
                told = excused_since(rules, start, zone)
                assert told
                told_day = day_at(told, zone, rules.day_start)
                last = max(one for one in qualified if one < start)
                in_time = known_day(asked(last), by_period[last], end_of(rules, last)) <= end
                if told_day > end and in_time and returned >= 0:
                    if result.balance > returned:
                        returned += 1
                        result.ledger += [(end, "CONSUMED", -1), (told_day, "REFUNDED", 1)]
                    else:
                        returned = -1
            if status == "BROKEN":
                alive = was_alive = False
                result.length = 0
            result.periods.append(
                (start, end, status, result.length, begins(end + DAY, zone, rules.day_start))
            )
        if day == end and end < start_of(rules, today) and start in result.reaches and was_alive:
            refunded = known_day(asked(start), by_period[start], end)
            before = max(one for one in qualified if one < start)
            seen_alive = known_day(asked(before), by_period[before], end_of(rules, before)) <= end
            if (
                refunded > end
                and seen_alive
                and missed(asked(start), result, start, zone, False, by_hand) == "FROZEN"
            ):
                result.ledger += [(end, "CONSUMED", -1), (refunded, "REFUNDED", 1)]
        day += DAY
    result.longest = max(result.runs, default=0)
    result.ledger.sort(key=lambda line: (line[0], REASONS.index(line[1])))
    return result


def missed(
    rules: SlowRules, result: SlowResult, day: date, zone: str, is_skipped: bool, by_hand: SlowByHand
) -> str:
    end = end_of(rules, day)
    if rules.off or any(first <= end and last >= day for first, last in by_hand.pauses):
        return "PAUSED"
    if rules.frequency == "DAILY" and day.weekday() in rules.days_off:
        return "DAY_OFF"
    if is_skipped or (rules.frequency == "DAILY" and not exists(day, zone, rules.day_start)):
        return "SKIPPED"
    if excused_since(rules, day, zone):
        return "EXCUSED"
    if any(first <= end and last >= day for first, last in by_hand.restores):
        return "RESTORED"
    return "FROZEN" if result.balance > 0 else "BROKEN"


def asked_in(rules: SlowRules, by_hand: SlowByHand, start: date, zone: str) -> SlowRules:
    """What is asked in a period."""
    end = begins(end_of(rules, start) + DAY, zone, rules.day_start)
    amnesties, asked = rules.amnesties, rules
    for until, before in reversed(rules.earlier):
        if end <= until:
            asked = before
    said = [
        each
        for each in sorted(by_hand.overrides, key=lambda each: each[:2])
        if start_of(rules, each[2]) <= start
    ]
    if said:
        *_, wanted = said[-1]
        asked = replace(
            asked,
            all_metrics=asked.all_metrics if wanted.all_metrics is None else wanted.all_metrics,
            thresholds={
                metric: (wanted.thresholds or asked.thresholds)[metric] or asked.thresholds[metric]
                for metric in asked.thresholds
                if metric in (wanted.thresholds or asked.thresholds)
            }
            or asked.thresholds,
            days_off=asked.days_off if wanted.days_off is None else wanted.days_off,
            off=wanted.off,
        )
    return replace(asked, amnesties=amnesties)


def excused_since(rules: SlowRules, day: date, zone: str) -> datetime | None:
    """When it was first declared that the period of this day is excused."""
    begin = begins(start_of(rules, day), zone, rules.day_start)
    end = begins(end_of(rules, day) + DAY, zone, rules.day_start)
    told = [declared for since, until, declared in rules.amnesties if since < end and until > begin]
    return min(told, default=None)


def known_day(rules: SlowRules, group: list[SlowFact], end: date) -> date:
    """The day from which on what had come by then qualified the period; its end, where that was in time."""
    day = None
    for known_by in [end, *sorted({fact.arrival_day for fact in group if fact.arrival_day > end})]:
        qualifies = reach(rules, [fact for fact in group if fact.arrival_day <= known_by]) is not None
        day = (day or known_by) if qualifies else None
    assert day
    return day


def exists(day: date, zone: str, start: int) -> bool:
    """Whether a day takes any time at all."""
    return begins(day, zone, start) < begins(day + DAY, zone, start)


def grant(rules: SlowRules, result: SlowResult, origin: date, day: date, by_hand: SlowByHand) -> None:
    given = sum(count for given_day, count in by_hand.grants if max(given_day, origin) == day)
    for amount, reason in (due(rules, origin, day), (given, "MANUAL")):
        room = min(amount, rules.maximum - result.balance)
        if room > 0:
            result.balance += room
            result.ledger.append((day, reason, room))


def due(rules: SlowRules, origin: date, day: date) -> tuple[int, str]:
    passed = (day - origin).days
    if passed == 0:
        return rules.initial, "INITIAL"
    if passed > 0 and rules.every and passed % rules.every == 0:
        return rules.earn, "ACCUMULATION"
    return 0, ""


def reach(rules: SlowRules, group: list[SlowFact]) -> SlowFact | None:
    """The fact from which on the sums stayed at the thresholds."""
    found = None
    for count in range(1, len(group) + 1):
        sums = {
            metric: sum(fact.value for fact in group[:count] if fact.metric == metric)
            for metric in rules.thresholds
        }
        reached = [sums[metric] >= wanted for metric, wanted in rules.thresholds.items()]
        if not (all(reached) if rules.all_metrics else any(reached)):
            found = None
        elif found is None:
            found = group[count - 1]
    return found


def travelled(rules: SlowRules, qualified: list[date], by_period: dict[date, list[SlowFact]]) -> set[date]:
    """The starts of the periods that travel alone made the user miss."""
    skipped = set()
    for first, second in pairwise(qualified):
        leaving, arriving = max(by_period[first]), min(by_period[second])
        if leaving.zone == arriving.zone:
            continue
        between = periods_between(rules, first, second)
        counts = [len(between)]
        for name in (leaving.zone, arriving.zone):
            left = day_at(leaving.time, name, rules.day_start)
            arrived = day_at(arriving.time, name, rules.day_start)
            counts.append(len(periods_between(rules, start_of(rules, left), start_of(rules, arrived))))
        forgiven = len(between) - min(counts)
        skipped |= set(between[len(between) - forgiven :])
    return skipped


def periods_between(rules: SlowRules, first: date, second: date) -> list[date]:
    starts = []
    day = end_of(rules, first) + DAY
    while day < second:
        starts.append(day)
        day = end_of(rules, day) + DAY
    return starts


def start_of(rules: SlowRules, day: date) -> date:
    if rules.frequency == "WEEKLY":
        while day.weekday() != rules.week_start:
            day -= DAY
    if rules.frequency == "MONTHLY":
        while day.day != 1:
            day -= DAY
    return day


def end_of(rules: SlowRules, day: date) -> date:
    start = start_of(rules, day)
    while start_of(rules, day + DAY) == start:
        day += DAY
    return day


@cache
def begins(day: date, zone: str, start: int) -> datetime:
    """The first instant, to the minute, at which the wall shows this time of this date or later."""
    wanted = datetime(day.year, day.month, day.day) + timedelta(minutes=start)  # noqa: DTZ001

    def wall(instant: datetime) -> datetime:
        return instant.astimezone(ZoneInfo(zone)).replace(tzinfo=None, fold=0)

    instant = wanted.replace(tzinfo=UTC) - timedelta(hours=16)
    while wall(instant) < wanted:
        instant += timedelta(minutes=15)
    while wall(instant - timedelta(minutes=1)) >= wanted:
        instant -= timedelta(minutes=1)
    return instant


def day_at(instant: datetime, zone: str, start: int) -> date:
    """The day at an instant; before it begins, the one before."""
    day = instant.astimezone(ZoneInfo(zone)).date()
    return day - DAY if start and instant < begins(day, zone, start) else day
