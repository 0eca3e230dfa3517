"""How completions come and go."""

from collections.abc import Iterable
from datetime import datetime

from msgspec.structs import replace

from services.achievement.domain.definitions import Achievement
from services.achievement.domain.fold import Grant
from services.achievement.domain.state import Change, ChangeKind, Completion, UserState, changed
from shared.entries import Entry
from shared.ids import derived_id


def granted(entry: Entry, achievement: Achievement, target: int, grant: Grant) -> Change:
    """The completion that `entry` brings about."""
    return made(entry.user.user_id, str(entry.entry_id), achievement, target, grant)


def passed_on(
    user_id: str,
    cause: str,
    achievement: Achievement,
    live: Completion | None,
    target: int,
    grant: Grant | None,
) -> tuple[Change, ...]:
    """What becomes of a completion where something was taken out: it stays as it is, or it goes, or another event owns
    it from now on and it is another one. What was backdated stays so.
    """
    if live is None:
        return () if grant is None else (made(user_id, cause, achievement, target, grant),)
    if grant is None:
        return (Change(ChangeKind.REVOKED, live),)
    if live.entry_id == grant.reach.entry_id:
        return ()
    other = made(user_id, cause, achievement, target, grant)
    if live.backdated:
        other = replace(other, completion=replace(other.completion, backdated=True))
    return Change(ChangeKind.REVOKED, live), other


def dated(change: Change, active_since: datetime) -> Change:
    """Backdated where the condition was met before."""
    completion = change.completion
    if completion.reach.occur_time >= active_since:
        return change
    return replace(change, completion=replace(completion, backdated=True))


def completed(state: UserState, changes: Iterable[Change]) -> UserState:
    """The state after these changes."""
    changes = tuple(changes)
    return replace(state, completions=changed(state.completions, changes)) if changes else state


def moved(before: UserState, after: UserState) -> tuple[Completion, ...]:
    """The completions that stay where something was undone, though another arrival would have brought them."""
    if before.completions is after.completions:
        return ()
    known = ((before.completions.get(place), live) for place, live in sorted(after.completions.items()))
    return tuple(
        live
        for was, live in known
        if was is not None and was.completion_id == live.completion_id and was.cause != live.cause
    )


def made(user_id: str, cause: str, achievement: Achievement, target: int, grant: Grant) -> Change:
    """A completion. Its id is its own: an event may come to own the same achievement again, by another `cause`."""
    completion_id = derived_id("completion", user_id, achievement.place, str(grant.reach.entry_id), cause)
    completion = Completion(
        completion_id, achievement.key, grant.reach, target, grant.cause, achievement.number
    )
    return Change(ChangeKind.COMPLETED, completion)
