"""What a decision needs beside the state: asked for where something comes late, is revised, or has no score yet."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import date, timedelta
from uuid import UUID

from msgspec import Struct, field
from msgspec.structs import replace

from services.leaderboard.domain.boards import WHOLE, Board, Boards, Source, SourceKind, segment_of
from services.leaderboard.domain.entries import (
    boards_by_length,
    newer,
    reached_runs,
    resolve,
    state_of,
    takes_newest,
    touched,
)
from services.leaderboard.domain.facts import Command
from services.leaderboard.domain.leagues import Seat
from services.leaderboard.domain.members import Profile, is_excluded
from services.leaderboard.domain.ranks import SegmentKey
from services.leaderboard.domain.runs import Run, RunState, Window
from services.leaderboard.domain.scores import Fact, FactKey, key_of
from services.leaderboard.domain.states import RunKey, Runs, UserState
from shared.calendar import utc_hour
from shared.entries import EntryKind


class History(Struct, frozen=True):
    """All facts that are stored of one user, source and run: for a score that is not there yet."""

    user_id: str
    board: str
    source: Source
    run: Run


class Newest(Struct, frozen=True):
    """The latest reach time of what is stored of one user, source and run, besides what was recalled."""

    user_id: str
    board: str
    source: Source
    run: Run
    window: Window
    besides: frozenset[tuple[date, UUID]]
    """By local date and entry: what was recalled of the source."""


class WantedSeat(Struct, frozen=True):
    """A user who is active in a run of a league, and not known to be in a cohort."""

    user_id: str
    board: str
    run_start: date
    utc_hour: int | None = None
    """So many whole hours the user's clock is ahead of UTC, where the league puts nearby zones together."""


class Wanted(Struct, frozen=True):
    """What is to be looked up for a batch. In the common case nothing is."""

    histories: tuple[History, ...] = ()
    awards: frozenset[tuple[str, FactKey]] = frozenset()
    """By user: points that stand under other entries than those that bring them."""
    events: frozenset[UUID] = frozenset()
    """Events that are revised."""
    early: frozenset[UUID] = frozenset()
    """Events that may have been revised before they came."""
    streaks: Mapping[tuple[str, str], date] = field(default_factory=dict)
    """By user and streak: from where on the periods count."""
    seats: tuple[WantedSeat, ...] = ()
    """In the order in which they are active."""


def runs_wanted(boards: Boards, commands: Iterable[Command], grace: timedelta) -> set[RunKey]:
    """The runs that these commands can touch, as far as is known without the state."""
    wanted: set[RunKey] = set()
    for command in commands:
        user_id = command.entry.user.user_id
        wanted.update((board.key, run.start) for board, run, _ in touched(boards, user_id, command.facts))
        for change in command.streaks:
            wanted.update(
                (board.key, run.start)
                for board in boards_by_length(boards, user_id, change)
                for run in reached_runs(board, change, command.entry, grace)
            )
    return wanted


def wanted(
    boards: Boards,
    users: Mapping[str, UserState],
    runs: Runs,
    commands: Iterable[Command],
    grace: timedelta,
    *,
    careful: bool,
) -> Wanted:
    """What to look up. That nothing stands yet under an entry that is new is taken for granted, and made sure of when
    it is stored; who is `careful` looks.
    """
    histories: dict[History, None] = {}
    seats: dict[tuple[str, RunKey], WantedSeat] = {}
    awards: set[tuple[str, FactKey]] = set()
    events: set[UUID] = set()
    early: set[UUID] = set()
    streaks: dict[tuple[str, str], date] = {}
    for command in commands:
        user = users[command.entry.user.user_id]
        places = touched(boards, user.user_id, command.facts)
        for seat in _seats_wanted(places, user, runs, command, grace):
            seats.setdefault((user.user_id, (seat.board, seat.run_start)), seat)
        if not user.version:
            continue
        # What one void moves of points can be thousands of facts, of few runs.
        of_runs = {(board.key, run.start): (board, run) for board, run, _ in places}
        for key, (board, run) in of_runs.items():
            if key not in user.held and not state_of(board, run, runs, grace).is_closed(command.entry.now):
                histories[History(user.user_id, board.key, board.source, run)] = None
        # Also of dates that lie in no run, as before a board's first: they are kept all the same.
        for fact in command.facts:
            if fact.source.kind is SourceKind.POINTS and (careful or fact.entry_id != command.entry.entry_id):
                awards.add((user.user_id, key_of(fact)))
        if command.entry.kind is EntryKind.METRIC_EVENT:
            early.update(fact.entry_id for fact in command.facts if fact.contribution is not None)
        events.update(revision.entry_id for revision in command.revisions)
        for change in command.streaks:
            if boards_by_length(boards, user.user_id, change):
                of = (user.user_id, change.streak)
                streaks[of] = min(streaks.get(of, date.max), change.first_date)
    return Wanted(
        tuple(histories),
        frozenset(awards),
        frozenset(events),
        frozenset(early),
        streaks,
        tuple(seats.values()),
    )


def with_seats(
    users: Mapping[str, UserState], seats: Mapping[str, Mapping[RunKey, Seat]]
) -> dict[str, UserState]:
    """The users with their seats in the cohorts of leagues."""
    return {
        user_id: replace(user, recalled=replace(user.recalled, seats=seats[user_id]))
        if user_id in seats
        else user
        for user_id, user in users.items()
    }


def _seats_wanted(
    places: Iterable[tuple[Board, Run, Fact]], user: UserState, runs: Runs, command: Command, grace: timedelta
) -> Iterable[WantedSeat]:
    """The runs of leagues among those that an entry counts in, where the user is in no cohort. Who is excluded takes no
    seat.
    """
    for board, run, _ in places:
        if board.league is None or state_of(board, run, runs, grace).is_closed(command.entry.now):
            continue
        held = user.held.get((board.key, run.start))
        if (held is None or held.segment == WHOLE) and not is_excluded(board, user.exclusions):
            entry = command.entry
            near = board.league.zone_band_count > 0
            hour = utc_hour(entry.occur_time, entry.time_zone) if near else None
            yield WantedSeat(user.user_id, board.key, run.start, hour)


def segments_wanted(
    boards: Boards, users: Mapping[str, UserState], runs: Runs, commands: Iterable[Command], grace: timedelta
) -> list[SegmentKey]:
    """The segments that these entries lead their users into, in that order, once the past is recalled."""
    found: dict[SegmentKey, None] = {}
    profiles: dict[str, Profile] = {}
    for command in commands:
        entry = command.entry
        user = users[entry.user.user_id]
        profile = profiles[user.user_id] = newer(profiles.get(user.user_id, user.profile), entry.user)
        for board, state in _reached(boards, user, runs, command, grace):
            segment = segment_of(board, profile.attributes)
            held = user.held.get((board.key, state.run.start))
            if (
                segment != WHOLE
                and (held is None or held.segment != segment)
                and not state.is_closed(entry.now)
            ):
                found[SegmentKey(board.key, state.run.start, segment)] = None
    return list(found)


def with_refused(users: Mapping[str, UserState], refused: frozenset[SegmentKey]) -> dict[str, UserState]:
    """The users, for whom there is no room in these segments."""
    return {
        user_id: replace(user, recalled=replace(user.recalled, refused=refused))
        for user_id, user in users.items()
    }


def _reached(
    boards: Boards, user: UserState, runs: Runs, command: Command, grace: timedelta
) -> Iterator[tuple[Board, RunState]]:
    """The boards with segments, and the runs of them, in which an entry may place its user."""
    revised = (user.recalled.events.get(revision.entry_id) for revision in command.revisions)
    facts = (*command.facts, *(fact for fact in revised if fact))
    for board, run, _ in touched(boards, user.user_id, facts):
        if board.breakdown:
            yield board, state_of(board, run, runs, grace)
    for change in command.streaks:
        for board in boards_by_length(boards, user.user_id, change):
            if board.breakdown:
                for run in reached_runs(board, change, command.entry, grace):
                    yield board, state_of(board, run, runs, grace)
    for key in user.held:
        held_on = boards.by_key.get(key[0])
        if held_on is not None and held_on.active and held_on.breakdown and key in runs:
            yield held_on, runs[key]


def newest_wanted(
    boards: Boards, users: Mapping[str, UserState], commands: Iterable[Command]
) -> list[Newest]:
    """The reach times to look up, once the past is recalled: where what a score was reached with is taken out."""
    found: dict[tuple[str, RunKey], Newest] = {}
    users = dict(users)
    for command in commands:
        user = users[command.entry.user.user_id]
        resolved = resolve(boards, user, command)
        users[user.user_id] = resolved.user
        places = touched(boards, user.user_id, (replaced.after for replaced in resolved.replaced))
        for key, (board, run) in {(board.key, run.start): (board, run) for board, run, _ in places}.items():
            held = user.held.get(key)
            if held and board.rule.adds and takes_newest(held.score, resolved, board, run):
                recalled = resolved.user.recalled
                known = (*recalled.awards.values(), *recalled.events.values())
                besides = {
                    (other.local_date, other.entry_id) for other in known if other.source == board.source
                }
                found[user.user_id, key] = Newest(
                    user.user_id, board.key, board.source, run, board.schedule.window, frozenset(besides)
                )
    return list(found.values())
