"""When a user is written to, and when not (RULES 8.6).

What happens makes plans. A plan is looked at when it may be due, with what is true then, and only then decided: it goes
out, waits, or is passed over. So whatever changed in between counts: the zone, a refusal, a streak that was saved.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from enum import IntEnum
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from services.notification.domain import recaps, timing
from services.notification.domain.contacts import Channel, Contact, MessageType
from services.notification.domain.recaps import Recap, RecapPeriod
from services.notification.domain.reminders import Streak
from shared.calendar import local_date, zone
from shared.filters import AttributeFilter, matches
from shared.tenants import shown

GATHERED_FOR: Final = timedelta(hours=1)
"""A message about achievements goes out when so long no other was completed: those of one evening come together."""
GATHERED_AT_MOST: Final = timedelta(hours=4)
"""After the first of them it goes out in any case."""
TOO_LATE: Final = timedelta(days=1)
"""What happened so long before it is heard of, or was due so long ago, is written to nobody: backdated events, an
outage."""
AWAY_DAYS: Final = (3, 7, 14, 30)
"""After so many days without an event a user is written to."""
MOST_METRICS: Final = 100
"""So many metrics of a user a recap counts."""
MOST_ITEMS: Final = 20
"""So many achievements a message names; the rest is left out."""
_DAY: Final = timedelta(days=1)


class MessageState(IntEnum):
    """What became of a message; the numbers are the contract's."""

    SENDING = 1
    SENT = 2
    REFUSED = 3
    UNKNOWN = 4
    TOLD = 5
    WAITING = 6


class Item(Struct, frozen=True):
    """An achievement that a message names."""

    item_id: str
    key: str
    name: str
    badge_url: str


class Plan(Struct, frozen=True, omit_defaults=True):
    """What may become a message."""

    user_id: str
    type: MessageType
    first_time: datetime
    """When the first of what it is about happened."""
    last_time: datetime
    """When the last did."""
    items: tuple[Item, ...] = ()
    step: int = 0
    """Of reactivation: how many of `AWAY_DAYS` have passed."""
    expire_time: datetime | None = None
    """Of a streak reminder: when the first streak ends, as it was when it was planned."""
    streaks: tuple[Streak, ...] = ()
    """Of a streak reminder that goes out: those that it names, as they are then."""
    totals: Mapping[str, float] = {}
    """Of a recap: of each metric as it was before the period, as far as anything was told of it since."""
    before: Mapping[str, float] | None = None
    """Of a recap: what the last one said of each metric; None: there was none."""
    recap: Recap | None = None
    """Of a recap that goes out: what it says."""


class Definition(Struct, frozen=True):
    """What the deployment sends of one type."""

    type: MessageType
    switched_on: bool
    channels: tuple[Channel, ...]
    filters: tuple[AttributeFilter, ...]
    send_time: time
    since: datetime
    """When it was switched on last: what was before is written to nobody."""
    every: RecapPeriod = RecapPeriod.WEEKLY
    """Of recaps."""


class User(Struct, frozen=True):
    """The user as of now."""

    user_id: str
    name: str
    time_zone: str
    attributes: Mapping[str, str]


class Send(Struct, frozen=True):
    """It goes out now."""

    local_date: date
    channels: tuple[Channel, ...]
    """By the first that works; none: it is told to webhooks alone."""


class Wait(Struct, frozen=True):
    """It is looked at again then."""

    until: datetime


class Skip(Struct, frozen=True):
    """It is passed over."""


Decision = Send | Wait | Skip


# What happens


def completed(plan: Plan | None, user_id: str, item: Item, time_: datetime, now: datetime) -> Plan | None:
    """The plan when an achievement was completed; None: there is none."""
    if now - time_ >= TOO_LATE or (plan is not None and len(plan.items) >= MOST_ITEMS):
        return plan
    if plan is None:
        return Plan(user_id, MessageType.ACHIEVEMENT, now, now, (item,))
    if any(known.item_id == item.item_id for known in plan.items):
        return plan
    return replace(plan, last_time=now, items=(*plan.items, item))


def revoked(plan: Plan | None, item_id: str) -> Plan | None:
    """The plan when an achievement was taken back; None: there is none any more."""
    if plan is None:
        return None
    items = tuple(item for item in plan.items if item.item_id != item_id)
    return replace(plan, items=items) if items else None


def seen(plan: Plan | None, user_id: str, time_: datetime) -> Plan:
    """The plan when the user did something: the days are counted from then. What is older than what is known counts
    for nothing.
    """
    if plan is not None and time_ <= plan.last_time:
        return plan
    return Plan(user_id, MessageType.REACTIVATION, time_, time_)


def endangered(plan: Plan | None, user_id: str, expire_time: datetime, now: datetime) -> Plan:
    """The plan when a streak was found that ends then. A reminder is of all that end together: the first one counts."""
    if plan is not None and plan.expire_time is not None and now < plan.expire_time <= expire_time:
        return plan
    return Plan(user_id, MessageType.STREAK_REMINDER, now, now, expire_time=expire_time)


def recorded(plan: Plan | None, user_id: str, metric: str, total_before: float, now: datetime) -> Plan:
    """The plan of a recap when a metric was recorded: its first event in a period alone says anything new."""
    if plan is None:
        return Plan(user_id, MessageType.RECAP, now, now, totals={metric: total_before})
    if metric in plan.totals or len(plan.totals) >= MOST_METRICS:
        return plan
    return replace(plan, totals={**plan.totals, metric: total_before})


# When it is due


def look_time(plan: Plan, definition: Definition, now: datetime) -> datetime:
    """When a plan may be due at the earliest, whatever zone the user is in."""
    into_day = timedelta(hours=definition.send_time.hour, minutes=definition.send_time.minute)
    match plan.type:
        case MessageType.ACHIEVEMENT:
            return max(now, _gathered(plan))
        case MessageType.STREAK_REMINDER:
            return now  # the zone is known to the ledger alone
        case MessageType.RECAP:
            last = recaps.period_of((plan.first_time - _DAY).date(), definition.every)[1]
            return max(now, datetime.combine(last, time(), UTC) + into_day)
        case MessageType.REACTIVATION:
            return max(now, plan.last_time + timedelta(days=AWAY_DAYS[plan.step] - 1) + into_day)


def due_time(plan: Plan, definition: Definition, user: User) -> datetime:
    """When a plan is due for a user, quiet hours left aside."""
    match plan.type:
        case MessageType.ACHIEVEMENT:
            return _gathered(plan)
        case MessageType.STREAK_REMINDER:
            assert plan.expire_time is not None  # there is nothing else that plans one
            return timing.last_before(plan.expire_time, definition.send_time, user.user_id, user.time_zone)
        case MessageType.RECAP:
            return at_local_time(recap_dates(plan, definition, user)[1] + _DAY, definition, user)
        case MessageType.REACTIVATION:
            last_day = local_date(plan.last_time, user.time_zone)
            return at_local_time(last_day + AWAY_DAYS[plan.step] * _DAY, definition, user)


def recap_dates(plan: Plan, definition: Definition, user: User) -> tuple[date, date]:
    """The first and the last of the user's dates that a recap is of."""
    return recaps.period_of(local_date(plan.first_time, user.time_zone), definition.every)


def at_local_time(day: date, definition: Definition, user: User) -> datetime:
    """The definition's time on a date of the user, spread over some minutes by the user's id."""
    return timing.at_local_time(day, definition.send_time, user.user_id, user.time_zone)


def _gathered(plan: Plan) -> datetime:
    return min(plan.last_time + GATHERED_FOR, plan.first_time + GATHERED_AT_MOST)


# What becomes of it


def decide(
    plan: Plan,
    definition: Definition,
    user: User,
    contact: Contact | None,
    last_sent: date | None,
    now: datetime,
) -> Decision:
    """What becomes of a plan now. `last_sent` is the user's date of the last message of the type."""
    if not definition.switched_on or plan.last_time < definition.since:
        return Skip()
    due = due_time(plan, definition, user)
    if now < due:
        return Wait(due)
    if now - due >= TOO_LATE or not matches(definition.filters, user.attributes):
        return Skip()
    if contact is not None and contact.refuses_all(plan.type):
        return Skip()
    today = local_date(now, user.time_zone)
    free = _quiet_until(contact, user, now)
    if last_sent is not None and last_sent >= today:
        free = at_local_time(last_sent + _DAY, definition, user)
    if plan.expire_time is not None and (free or now) >= plan.expire_time:
        return Skip()  # a reminder is of use as long as something can be done
    if free is not None:
        return Wait(free)
    channels = tuple(
        channel
        for channel in definition.channels
        if contact is not None and contact.wants(plan.type, channel)
    )
    return Send(today, channels)


def confirmed(plan: Plan, decision: Send) -> Decision:
    """What becomes of a plan that would go out now, with what was read just before."""
    if plan.type is MessageType.STREAK_REMINDER and not plan.streaks:
        return Skip()
    if plan.type is MessageType.RECAP and (plan.recap is None or plan.recap.is_empty):
        return Skip()
    return decision


def after(current: Plan, done: Plan, now: datetime) -> Plan | None:
    """What is still planned when `done` was sent or passed over; None: nothing. Meanwhile more may have happened."""
    match current.type:
        case MessageType.ACHIEVEMENT:
            named = {item.item_id for item in done.items}
            items = tuple(item for item in current.items if item.item_id not in named)
            return replace(current, first_time=current.last_time, items=items) if items else None
        case MessageType.STREAK_REMINDER:
            return None if current.last_time == done.last_time else current  # the next streak is near
        case MessageType.RECAP:
            return _next_recap(done.user_id, done.recap, now)
        case MessageType.REACTIVATION:
            if current.last_time != done.last_time:
                return current  # the user has come back
            is_last = current.step + 1 == len(AWAY_DAYS)
            return None if is_last else replace(current, step=current.step + 1)


def _next_recap(user_id: str, recap: Recap | None, now: datetime) -> Plan | None:
    """The next one is planned at once: whoever does nothing until then gets none, and is planned when coming back."""
    if recap is None or recap.is_empty:
        return None
    said = {each.key: each.amount for each in recap.metrics}
    return Plan(user_id, MessageType.RECAP, now, now, totals=recap.totals, before=said)


def variables(plan: Plan, user: User) -> dict[str, object]:
    """What a template knows."""
    known: dict[str, object] = {
        "user": {"id": shown(user.user_id), "name": user.name, "attributes": dict(user.attributes)}
    }
    match plan.type:
        case MessageType.ACHIEVEMENT:
            known["achievements"] = [
                {"key": item.key, "name": item.name, "badge_url": item.badge_url} for item in plan.items
            ]
        case MessageType.STREAK_REMINDER:
            known["streaks"] = [_streak_variables(streak, user) for streak in plan.streaks]
        case MessageType.RECAP:
            known |= recaps.variables(plan.recap) if plan.recap else {}
        case MessageType.REACTIVATION:
            known["days"] = AWAY_DAYS[plan.step]
    return known


def _streak_variables(streak: Streak, user: User) -> dict[str, object]:
    assert streak.expire_time is not None  # it is at risk
    local_end = streak.expire_time.astimezone(zone(user.time_zone))
    return {
        "key": streak.key,
        "name": streak.name,
        "length": streak.length,
        "expire_time": streak.expire_time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "expires_at": f"{local_end:%H:%M}",
    }


def chosen_language(wanted: str, languages: Sequence[str]) -> int:
    """Which of the languages somebody gets: the wanted one, else the same without its region, else the first."""
    lower = [language.lower() for language in languages]
    for candidate in (wanted.lower(), wanted.lower().partition("-")[0]):
        if candidate in lower:
            return lower.index(candidate)
    return 0


def _quiet_until(contact: Contact | None, user: User, now: datetime) -> datetime | None:
    if contact is None or contact.quiet_hours is None:
        return None
    end = contact.quiet_hours.end_after(now.astimezone(zone(user.time_zone)))
    return None if end is None else end.astimezone(UTC)
