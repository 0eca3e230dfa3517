"""What an entry does to its user's scores: the decision of the event path, pure (RULES 6.1 to 6.5)."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial, reduce
from typing import Final
from uuid import UUID

from msgspec.structs import replace

from services.leaderboard.domain.boards import WHOLE, Board, Boards, Source, SourceKind
from services.leaderboard.domain.facts import Command, Revision
from services.leaderboard.domain.lengths import Period, StreakChange, length_in, reached, told
from services.leaderboard.domain.members import (
    ALL_BOARDS,
    Exclusion,
    Exclusions,
    Held,
    Profile,
    held_position,
    said,
)
from services.leaderboard.domain.runs import WHOLE_DAY, Run, RunState, finalize_time, newest_date, run_of
from services.leaderboard.domain.scores import NO_SCORE, Fact, FactKey, Score, extended, folded, key_of
from services.leaderboard.domain.states import (
    Change,
    Decision,
    Past,
    Replaced,
    Resolved,
    RunKey,
    Runs,
    UserState,
)
from shared.calendar import local_date
from shared.entries import BoardExclusion, Entry, EntryKind, UserSnapshot

_OPEN_AFTER_END: Final = timedelta(hours=36)
"""So long after the beginning of its last date in UTC, and then the grace, is a run open."""


def touched(boards: Boards, user_id: str, facts: Iterable[Fact]) -> list[tuple[Board, Run, Fact]]:
    """Every board and run that these facts of a user fall into, in order."""
    return [
        (board, run, fact)
        for fact in facts
        for board, run in boards.runs_on(fact.source, user_id, fact.local_date)
        if is_in_window(board, fact)
    ]


def is_in_window(board: Board, fact: Fact) -> bool:
    """Whether it happened at a time of the day at which the board counts. Only metrics' events have one."""
    window = board.schedule.window
    return window is WHOLE_DAY or fact.source.kind is not SourceKind.METRIC or window.has(fact.local_minute)


def reached_runs(board: Board, change: StreakChange, entry: Entry, grace: timedelta) -> list[Run]:
    """The runs into which a streak's change reaches: those that have begun in the first zone, where they are not over
    everywhere, or up to the last period that it tells. The user's own zone does not decide: it can change again, and
    then another order of arrival would lead into other runs.
    """
    first = max(change.first_date, (entry.now - _OPEN_AFTER_END - grace).date())
    return list(reached(board.schedule, first, max(newest_date(entry.now), change.last_date)))


def boards_by_length(boards: Boards, user_id: str, change: StreakChange) -> tuple[Board, ...]:
    """The boards with runs that rank this user by this streak."""
    return boards.ranking(Source(SourceKind.PERIODS, change.streak), user_id)


def decide(
    boards: Boards, user: UserState, command: Command, runs: Runs, past: Past, grace: timedelta
) -> Decision:
    """What one entry changes. A finalised run takes nothing more (RULES 6.2)."""
    known = replace(
        user,
        profile=newer(user.profile, command.entry.user),
        version=user.version + 1,
        exclusions=_with_exclusion(boards, user.exclusions, command.entry),
    )
    resolved = resolve(boards, known, command)
    known = _with_lengths(boards, resolved.user, command)
    changed: dict[RunKey, Held] = {}
    open_runs: dict[RunKey, RunState] = {}
    closed: dict[RunKey, RunState] = {}
    scored = _scored(boards, known, resolved, command, runs, past, grace)
    for state, held in scored:
        key = (state.board, state.run.start)
        if held is None:
            closed[key] = replace(state, finalized=True)
        else:
            changed[key], open_runs[key] = held, state
    changes = tuple(_changes(boards, open_runs, user, changed))
    if moved := _moved(boards, known, changed, runs, command.entry.now):
        changes += tuple(_changes(boards, runs, user, moved, moved=True))
        open_runs |= {key: runs[key] for key in moved}
        changed |= moved
    return Decision(
        user=replace(known, held={**user.held, **changed}) if changed else known,
        changed=changed,
        runs=open_runs,
        changes=changes,
        closed=tuple(closed.values()),
        awards=_awards(boards, resolved),
        revised=tuple(
            replaced.after
            for replaced in resolved.replaced
            if replaced.after.source.kind is SourceKind.METRIC
        ),
        early=resolved.early,
        lengths={
            change.streak: _new_lengths(user, known, change.streak)
            for change in command.streaks
            if change.streak in known.recalled.lengths
        },
    )


def undone(boards: Boards, user: UserState, scores: Mapping[RunKey, Score], runs: Runs) -> Decision:
    """What is left of a user's scores when these are what the other facts make; only what differs changes."""
    changed = {
        key: replace(user.held[key], score=score)
        for key, score in scores.items()
        if score != user.held[key].score
    }
    return Decision(
        user=replace(user, version=user.version + 1, held={**user.held, **changed}),
        changed=changed,
        runs={key: runs[key] for key in changed},
        changes=tuple(_changes(boards, runs, user, changed)),
    )


def resolve(boards: Boards, user: UserState, command: Command) -> Resolved:
    """What is new, and what changes a thing that had been said: points under the key of others, and contributions.

    Both commute: points are added up, and of contributions the newest version holds.
    """
    facts: list[Fact] = []
    replaced: list[Replaced] = []
    awards: dict[FactKey, Fact] = {}
    events: dict[UUID, Fact] = {}
    recalled = user.recalled
    for fact in command.facts:
        if fact.source.kind is SourceKind.POINTS and boards.ranking(fact.source, user.user_id):
            known = recalled.awards.get(key_of(fact))
            after = fact if known is None else replace(known, amount=known.added + fact.added)
            awards[key_of(fact)] = after
            if known is not None:
                replaced.append(Replaced(known, after))
                continue
        elif fact.contribution is not None:
            revision = recalled.early.get(fact.entry_id)
            if revision is not None and revision.version > fact.version:
                fact = replace(fact, contribution=revision.contribution, version=revision.version)
            events[fact.entry_id] = fact
        facts.append(fact)
    if not awards and not events and not command.revisions:
        return Resolved(user, facts)
    early: dict[UUID, Revision] = {}
    for revision in command.revisions:
        event = events.get(revision.entry_id) or recalled.events.get(revision.entry_id)
        if event is None:
            waiting = recalled.early.get(revision.entry_id)
            is_new = waiting is None or waiting.version < revision.version
            if is_new and revision.entry_id not in recalled.undone:
                early[revision.entry_id] = revision
        elif event.version < revision.version:
            after = replace(event, contribution=revision.contribution, version=revision.version)
            events[revision.entry_id] = after
            replaced.append(Replaced(event, after))
    recalled = replace(
        recalled,
        awards={**recalled.awards, **awards},
        events={**recalled.events, **events},
        early={**recalled.early, **early},
    )
    return Resolved(replace(user, recalled=recalled), facts, replaced, tuple(early.values()))


def keeps_rank_history(kind: EntryKind) -> bool:
    """Whether an entry leaves rows in the rank history.

    A correction does not: together with the entry that it corrects, whose rows are removed, it leaves the
    history as though the entry had never been (RULES 7.3).
    """
    return kind is not EntryKind.CORRECTION


def _changes(
    boards: Boards, runs: Runs, user: UserState, changed: Mapping[RunKey, Held], *, moved: bool = False
) -> Iterator[Change]:
    """What leads from what was held to what changed. Of what only moved the whole board hears where somebody comes out
    of hiding, or goes into it.
    """
    for key, after in changed.items():
        order, before = boards.by_key[key[0]].order, user.held.get(key)
        was = held_position(order, user.user_id, before) if before else None
        now = held_position(order, user.user_id, after)
        if was is None and now is None:
            continue
        old_segment = before.segment if before else WHOLE
        stays = old_segment == after.segment
        yield Change(
            runs[key],
            was,
            now,
            after.segment,
            left=WHOLE if stays else old_segment,
            stays=stays or before is None,
            evaluated=not moved or (was is None) is not (now is None),
        )


def newer(profile: Profile, snapshot: UserSnapshot) -> Profile:
    """The newer of what is held and what came; a user's first snapshot always counts. Segments go by the attributes
    as they hold now, also where those of the entry are others.
    """
    if profile.version and snapshot.version <= profile.version:
        return profile
    newest = snapshot.newest_attributes
    return Profile(snapshot.version, snapshot.name, snapshot.attributes if newest is None else newest)


def unknown_board_of(boards: Boards, entry: Entry) -> str:
    """The board that it is about, where that is not there; else empty."""
    said_of = entry.content
    named = said_of.leaderboard if isinstance(said_of, BoardExclusion) else ALL_BOARDS
    return "" if named == ALL_BOARDS or named in boards.by_key else named


def _with_exclusion(boards: Boards, exclusions: Exclusions, entry: Entry) -> Exclusions:
    """What is known after an entry: of two that were recorded one after the other the later holds."""
    exclusion = entry.content
    if not isinstance(exclusion, BoardExclusion) or unknown_board_of(boards, entry):
        return exclusions
    return said(exclusions, exclusion.leaderboard, Exclusion(entry.user_sequence, exclusion.excluded))


_ByRun = dict[RunKey, tuple[Board, Run, list[Fact], list[Replaced]]]


def _by_run(boards: Boards, resolved: Resolved) -> _ByRun:
    """What one entry says by the board and run that it falls into: of points there may be several."""
    by_run: _ByRun = {}
    for board, run, fact in touched(boards, resolved.user.user_id, resolved.facts):
        by_run.setdefault((board.key, run.start), (board, run, [], []))[2].append(fact)
    for replaced in resolved.replaced:
        for board, run, _ in touched(boards, resolved.user.user_id, (replaced.after,)):
            if board.rule.adds:
                by_run.setdefault((board.key, run.start), (board, run, [], []))[3].append(replaced)
    return by_run


def state_of(board: Board, run: Run, runs: Runs, grace: timedelta) -> RunState:
    """A run as it is stored, or as it is before anything is."""
    return runs.get((board.key, run.start)) or RunState(board.key, run, finalize_time(run, grace))


def _scored(
    boards: Boards,
    user: UserState,
    resolved: Resolved,
    command: Command,
    runs: Runs,
    past: Past,
    grace: timedelta,
) -> Iterator[tuple[RunState, Held | None]]:
    """The scores that one entry makes, by run; none where the run is closed."""
    for key, (board, run, facts, replaced) in _by_run(boards, resolved).items():
        state = state_of(board, run, runs, grace)
        if state.is_closed(command.entry.now):
            yield state, None
            continue
        score = _with_facts(board, run, user, past, facts, replaced)
        if key in user.held or score != NO_SCORE:
            yield state, user.held_on(board, state.run.start, score)
    for change in command.streaks:
        yield from _by_length(boards, user, change, command, runs, grace)


def _with_facts(
    board: Board,
    run: Run,
    user: UserState,
    past: Past,
    facts: Sequence[Fact],
    replaced: Sequence[Replaced],
) -> Score:
    """The user's score on a board with what one more entry says."""
    key = (board.key, run.start)
    held = user.held.get(key)
    if held is None:
        said = [*facts, *(place.after for place in replaced)]
        again = {key_of(fact) for fact in said}
        stored = past.histories.get((user.user_id, *key), ())
        others = (fact for fact in stored if key_of(fact) not in again and is_in_window(board, fact))
        return folded(board, [*others, *said])
    score = held.score
    if replaced:
        score = _with_replaced(board, run, user, past, score, replaced)
    return reduce(partial(extended, board), facts, score)


def _with_replaced(
    board: Board, run: Run, user: UserState, past: Past, score: Score, replaced: Sequence[Replaced]
) -> Score:
    """A sum after something that had been said was changed. What adds nothing any more leaves no reach time."""
    amount = (score.amount or 0) + sum(held.after.added - held.before.added for held in replaced)
    reach_times = [score.reach_time] if score.reach_time else []
    if any(_takes_away(score, held) for held in replaced):
        key = (user.user_id, board.key, run.start)
        newest = past.newest.get(key)
        recalled = {
            **user.recalled.awards,
            **{key_of(event): event for event in user.recalled.events.values()},
        }
        others = [
            *recalled.values(),
            *(fact for fact in past.histories.get(key, ()) if key_of(fact) not in recalled),
        ]
        reach_times = [newest] if newest else []
        reach_times += [fact.reach_time for fact in others if fact.added and _counts_in(board, run, fact)]
    reach_times += [held.after.reach_time for held in replaced if held.after.added]
    return Score(amount, max(reach_times)) if reach_times else NO_SCORE


def _takes_away(score: Score, replaced: Replaced) -> bool:
    """Whether what is taken out may be what the reach time is of."""
    is_gone = bool(replaced.before.added) and not replaced.after.added
    return is_gone and score.reach_time is not None and replaced.before.reach_time >= score.reach_time


def _counts_in(board: Board, run: Run, fact: Fact) -> bool:
    return (
        fact.source == board.source and run.start <= fact.local_date <= run.end and is_in_window(board, fact)
    )


def takes_newest(score: Score, resolved: Resolved, board: Board, run: Run) -> bool:
    """Whether only what is stored besides tells when the score was reached."""
    return any(
        _takes_away(score, replaced)
        for replaced in resolved.replaced
        if _counts_in(board, run, replaced.after)
    )


def _with_lengths(boards: Boards, user: UserState, command: Command) -> UserState:
    """The user with the lengths that an entry tells, where boards with runs rank by them."""
    lengths = dict(user.recalled.lengths)
    for change in command.streaks:
        if boards_by_length(boards, user.user_id, change):
            lengths[change.streak] = told(lengths.get(change.streak, {}), change.periods)
    return replace(user, recalled=replace(user.recalled, lengths=lengths)) if lengths else user


def _by_length(
    boards: Boards, user: UserState, change: StreakChange, command: Command, runs: Runs, grace: timedelta
) -> Iterator[tuple[RunState, Held | None]]:
    """The runs in which the length is another now; without a score, that of the entry's date where it is closed."""
    entry = command.entry
    day = local_date(entry.occur_time, entry.time_zone)
    for board in boards_by_length(boards, user.user_id, change):
        looked_at = {
            (board.key, run.start): state_of(board, run, runs, grace)
            for run in reached_runs(board, change, entry, grace)
        }
        looked_at |= {
            key: runs[key]
            for key in user.held
            if key[0] == board.key and key in runs and runs[key].run.end >= change.first_date
        }
        for key, state in looked_at.items():
            held = user.held.get(key)
            score = length_in(user.recalled.lengths[change.streak], state.run)
            if not state.is_closed(entry.now) and score != (held.score if held else NO_SCORE):
                yield state, user.held_on(board, state.run.start, score)
        own = run_of(board.schedule, day)
        if own and change.first_date <= day:
            state = state_of(board, own, runs, grace)
            if state.is_closed(entry.now):
                yield state, None


def _new_lengths(before: UserState, after: UserState, streak: str) -> list[Period]:
    """What is to be stored of a streak."""
    was, now = before.recalled.lengths.get(streak, {}), after.recalled.lengths[streak]
    return [period for start, period in now.items() if was.get(start) != period]


def _awards(boards: Boards, resolved: Resolved) -> tuple[Fact, ...]:
    """Points as they now stand, where boards with runs rank by them."""
    new = (
        fact
        for fact in resolved.facts
        if fact.source.kind is SourceKind.POINTS and boards.ranking(fact.source, resolved.user.user_id)
    )
    return (
        *new,
        *(
            replaced.after
            for replaced in resolved.replaced
            if replaced.after.source.kind is SourceKind.POINTS
        ),
    )


def _moved(
    boards: Boards, user: UserState, changed: Mapping[RunKey, Held], runs: Runs, now: datetime
) -> dict[RunKey, Held]:
    """The scores in other open runs that move, whole, because the user's attributes changed or the user was excluded or
    came back (RULES 6.5, 6.13).
    """
    moved: dict[RunKey, Held] = {}
    for key, held in user.held.items():
        board = boards.by_key.get(key[0])
        if board is None or not board.active or key in changed or key not in runs or runs[key].is_closed(now):
            continue
        now_held = user.held_on(board, key[1], held.score)
        if now_held != held:
            moved[key] = now_held
    return moved
