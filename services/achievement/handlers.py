"""What the service does for each call: load, decide, store."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Final
from uuid import UUID

from laurel.ledger.v1.effects_pb2 import Effects

from services.achievement import convert
from services.achievement.anniversaries import came_entry, told_of
from services.achievement.domain import (
    Catalogue,
    Command,
    Decision,
    Fact,
    InTime,
    Past,
    Progress,
    Revision,
    Span,
    Start,
    StreakTrigger,
    UserState,
    Wanted,
    WantedFacts,
    decide_in_time,
    give_back,
    list_progress,
    moved,
    revert,
    sources_of,
)
from services.achievement.history import History, HistoryQuery, HistoryRow
from services.achievement.past import PastStore
from services.achievement.store import Asked, Loaded, LogEntry, Store
from services.achievement.store_undo import UndoStore
from shared import faults
from shared.clock import Clock
from shared.entries import EntryKind, Reversal
from shared.pages import read_page
from shared.participant import Work, apply_batch, revert_batch
from shared.postgres import definitions as stored
from shared.postgres.pool import Connection, Pool
from shared.postgres.request_log import Known, State
from shared.rpc.participants import applied_outcome, nothing_reverted, refused_outcome, reverted_outcome

BEFORE_STORE: Final = faults.declare(
    "achievement.apply.before_store", "a batch is decided, nothing of it is stored"
)
AFTER_STORE: Final = faults.declare(
    "achievement.apply.after_store", "a batch is stored, the caller has no answer yet"
)
BEFORE_COMMIT: Final = faults.declare(
    "achievement.revert.before_commit", "an entry is undone, not yet committed"
)
AFTER_COMMIT: Final = faults.declare(
    "achievement.revert.after_commit", "entries are undone, the caller has no answer yet"
)

_REFUSE: Final = partial(refused_outcome, domain=convert.DOMAIN)

StoredCatalogue = stored.Catalogue[Catalogue]


class Handlers:
    """The use cases."""

    def __init__(self, pool: Pool, store: Store, catalogue: StoredCatalogue, clock: Clock) -> None:
        self._pool = pool
        self._past = PastStore(pool)
        self._history = History(pool)
        self._store = store
        self._catalogue = catalogue
        self._clock = clock

    async def apply_entries(self, work: Sequence[Work[Command]]) -> list[bytes]:
        """One serialized outcome for each command, in order. Raises as `apply_batch` does."""
        return await apply_batch(self._pool, work, self._run, _REFUSE)

    async def revert_entries(self, reversals: Sequence[Reversal]) -> list[bytes]:
        """One serialized outcome for each reversal, in order."""
        outcomes = await revert_batch(self._pool, reversals, self._undo, nothing_reverted)
        await AFTER_COMMIT.reach()
        return outcomes

    async def list_user_achievements(
        self, user_id: str, *, completed_only: bool, unseen_only: bool, page_size: int, page_token: str
    ) -> tuple[list[Progress], str]:
        """A page of what the user sees of the achievements, and the token of the next one; for a user without
        events, all that can be earned.
        """
        asked = ["user_achievements", user_id, str(completed_only), str(unseen_only)]
        page = read_page(page_size, page_token, keyset=[datetime, str, int, str], query=asked)
        loaded = await self._store.load_whole(user_id)
        catalogue = await self._catalogue.at(loaded.configuration_version)
        after = page.after and (page.after[0], page.after[1], page.after[2], page.after[3])
        found = list_progress(
            catalogue,
            loaded.states[user_id],
            self._clock.now(),
            completed_only=completed_only,
            unseen_only=unseen_only,
            after=after or None,
        )
        shown = found[: page.size]
        return shown, page.next_token(*shown[-1].order) if len(found) > page.size else ""

    async def list_completions(
        self, query: HistoryQuery, page_size: int, page_token: str
    ) -> tuple[list[HistoryRow], str]:
        """A page of what was ever completed and revoked, and the token of the next one."""
        page = read_page(page_size, page_token, keyset=[datetime, UUID, int], query=query.texts)
        return await self._history.list(query, page)

    async def _run(self, fresh: Sequence[Work[Command]]) -> list[bytes]:
        """Load, decide and store entries that were never seen: two round trips.

        An entry that looks into the past finds there what is stored. Where entries of its user go before it in the
        batch, it waits until those are, and all that follow it wait with it.
        """
        outcomes: dict[UUID, bytes] = {}
        waiting = list(fresh)
        while waiting:
            entries, waiting = await self._decide(waiting)
            outcomes |= {entry.decision.fact.entry_id: entry.outcome for entry in entries}
        return [outcomes[work.entry_id] for work in fresh]

    async def _decide(self, batch: Sequence[Work[Command]]) -> tuple[list[LogEntry], list[Work[Command]]]:
        """Decides and stores what need not wait for others of the batch; the rest is returned."""
        catalogue, loaded = await self._load(batch)
        with self._store.recent.decided_and_stored(loaded.states.keys(), guessed=loaded.is_guess):
            return await self._decide_and_store(batch, catalogue, loaded)

    async def _decide_and_store(
        self, batch: Sequence[Work[Command]], catalogue: Catalogue, loaded: Loaded
    ) -> tuple[list[LogEntry], list[Work[Command]]]:
        known = await self._known(batch, catalogue, loaded)
        after: dict[str, UserState] = {}
        entries: list[LogEntry] = []
        came: list[LogEntry] = []
        told: list[bytes] = []
        waiting: dict[str, list[Work[Command]]] = {}
        for work in batch:
            user = work.user_id
            decided = None
            if user not in waiting:
                decided = await self._decision(catalogue, loaded, after.get(user), work, known)
            if decided is None:
                waiting.setdefault(user, []).append(work)
                continue
            after[user] = decided.state
            known.learn(decided.decision)
            entries.append(_log_entry(work, decided.decision, catalogue))
            for each in (*decided.before, *decided.after):
                came.append(came_entry(user, each))
                known.learn(came[-1].decision)
                told += told_of(user, [each], catalogue, history=work.command.entry.is_history)
        await BEFORE_STORE.reach()
        await self._store.save([*entries, *came], loaded, after, told)
        await AFTER_STORE.reach()
        return entries, [work for works in waiting.values() for work in works]

    async def _decision(
        self,
        catalogue: Catalogue,
        loaded: Loaded,
        state: UserState | None,
        work: Work[Command],
        known: "_Known",
    ) -> InTime | None:
        """With as much of the past as it asks for; None where that is not stored yet. `state`: after entries of the
        batch.
        """
        spans: dict[Start, Span] = {}
        while True:
            try:
                stands = state or loaded.states[work.user_id]
                return decide_in_time(catalogue, stands, work.command, known.past(spans))
            except WantedFacts as wanted:
                known.read(wanted.entry_ids, await self._past.facts(wanted.entry_ids))
            except Wanted as wanted:
                if state is not None:
                    return None
                spans[wanted.start] = await self._past.span(work.user_id, wanted.start, spans)

    async def _load(self, fresh: Sequence[Work[Command]]) -> tuple[Catalogue, Loaded]:
        """The definitions, and of the users' state what the entries can touch by those definitions."""
        users = {work.user_id: work.command.entry.user.life for work in fresh}
        told = {source for work in fresh for source in sources_of(work.command)}
        called = {work.command.achievement for work in fresh if work.command.achievement}
        kinds = {work.command.entry.kind for work in fresh}
        corrects = EntryKind.CORRECTION in kinds
        takes = corrects or EntryKind.ACHIEVEMENT_REVOCATION in kinds

        async def load(catalogue: Catalogue, version: int) -> Loaded:
            besides = catalogue.by_streak if corrects else catalogue.judged
            sources = told.union(
                beside.trigger.source for beside in besides if beside.trigger.source is not None
            )
            touched = catalogue.following(sources)
            streaks = {
                achievement.trigger.streak
                for achievement in touched
                if isinstance(achievement.trigger, StreakTrigger)
            }
            touchable = called.union(achievement.key for achievement in (*touched, *catalogue.anniversaries))
            keys = catalogue.with_composites(touchable)
            whose = keys if takes or len(keys) > len(touchable) else ()
            asked = Asked(
                frozenset(source.key for source in sources),
                frozenset(keys),
                frozenset(streaks),
                frozenset(whose),
            )
            return await self._store.recall(users, asked, version)

        return await self._catalogue.with_state(load)

    async def _known(self, batch: Sequence[Work[Command]], catalogue: Catalogue, loaded: Loaded) -> "_Known":
        """What entries say of others, where that takes more than their users' state: by far most say nothing."""
        named: set[UUID] = set()
        revisable: set[UUID] = set()
        for work in batch:
            entry = work.command.entry
            if entry.corrected_entry_id is not None:
                named.add(entry.corrected_entry_id)
            if entry.metric is not None and entry.metric.revisable:
                revisable.update(
                    (entry.entry_id, *(revision.entry_id for revision in entry.metric.revisions))
                )
        if catalogue.judged:
            named |= _reaching(batch, loaded)
        facts = await self._past.facts(named | revisable)
        return _Known(facts, await self._past.revisions(loaded.states.keys(), revisable))

    async def _undo(self, connection: Connection, reversal: Reversal, _known: Known) -> bytes:
        """Undo one applied entry in the transaction of its reversal."""
        version = await self._store.configuration_version(connection)
        catalogue = await self._catalogue.at(version, connection)
        undo = UndoStore(connection)
        state, fact = await undo.lock_fact(reversal.entry_id, catalogue)
        calls, taken = {}, []
        if not fact.metric:
            taken = await undo.withheld_by(reversal.entry_id)
            calls = await undo.next_calls(state, fact, catalogue)
        facts: dict[UUID, Fact | None] = {}
        owners = await PastStore(connection).facts([live.entry_id for live in taken])
        while True:
            try:
                if taken:
                    derived, changes = give_back(catalogue, state, fact, taken, owners, Past(facts))
                else:
                    derived, changes = revert(catalogue, state, fact, calls, Past(facts))
                break
            except WantedFacts as wanted:
                found = await PastStore(connection).facts(wanted.entry_ids)
                facts |= dict.fromkeys(wanted.entry_ids) | found
        self._store.recent.forget([state.user_id])
        others = moved(state, derived)
        await undo.save(derived, fact, changes, others, reversal.now)
        await BEFORE_COMMIT.reach()
        effects = convert.effects_of_undoing(state.user_id, changes, others, catalogue)
        return reverted_outcome(fact.entry_id, effects)


class _Known:
    """What a batch knows of entries besides its own, and of its own once they are decided."""

    def __init__(self, facts: Mapping[UUID, Fact], revisions: dict[UUID, Revision]) -> None:
        self._facts: dict[UUID, Fact | None] = dict(facts)
        self._revisions = revisions

    def past(self, spans: Mapping[Start, Span]) -> Past:
        """For a decision."""
        return Past(self._facts, self._revisions, spans)

    def read(self, entry_ids: Iterable[UUID], facts: Mapping[UUID, Fact]) -> None:
        """What is stored of these entries, on which nobody in the batch bears."""
        self._facts |= {entry_id: facts.get(entry_id) for entry_id in entry_ids}

    def learn(self, decision: Decision) -> None:
        """What later entries of the batch may name."""
        self._facts[decision.fact.entry_id] = decision.fact
        for fact in decision.revised:
            self._facts[fact.entry_id] = fact
        for revision in decision.kept:
            self._revisions[revision.entry_id] = revision


def _reaching(batch: Sequence[Work[Command]], loaded: Loaded) -> set[UUID]:
    """The entries of which it matters whether their users could earn what was reached with them."""
    told = [
        reach for work in batch for change in work.command.streak_changes for _, reach in change.first_reaches
    ]
    kept = [first.reach for state in loaded.states.values() for first in state.reaches.values()]
    return {reach.entry_id for reach in (*told, *kept) if reach is not None}


def _log_entry(work: Work[Command], decision: Decision, catalogue: Catalogue) -> LogEntry:
    entry = work.command.entry
    if decision.refusal is None:
        state = State.APPLIED
        outcome = applied_outcome(entry.entry_id, _effects(work, decision, catalogue))
    else:
        state = State.REJECTED
        error = convert.refusal_error(decision.refusal, work.command.achievement)
        outcome = _REFUSE(entry.entry_id, error)
    return LogEntry(work.user_id, work.digest, state, outcome, entry.now, decision)


def _effects(work: Work[Command], decision: Decision, catalogue: Catalogue) -> Effects:
    if work.command.entry.kind is EntryKind.CORRECTION:
        return convert.effects_of_undoing(work.user_id, decision.changes, decision.moved, catalogue)
    return convert.effects(work.user_id, decision.changes, catalogue)
