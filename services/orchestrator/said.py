"""What has been said about a user, with its times: what holds now, and what held as of an event (RULES 1.5, 2.3).

Every event and every UpdateUser makes statements: of a name, a zone, attributes. Of each of them *runs* are kept: a
value with the times of the first and of the last statement of it that no other value interrupts. What held at an
instant is the value of the last run that had begun by then. Where runs do not decide what a statement changes, because
it comes late and interrupts a run, or lies before what is kept, `Unknown` is raised; then `rebuild` does it, with the
statements from the ledger. Pure.

Times are microseconds since 1970, as stored.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from msgspec import Struct, field
from msgspec.structs import replace

MOST_RUNS = 64
"""Of a user's attributes, besides the newest of each: what changes with every event must not make the user grow."""
KEPT_MICROS = 7 * 86_400 * 1_000_000
"""Runs that ended longer before the newest statement are forgotten. Older events are rare; the ledger knows."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class UserPatch(Struct, frozen=True):
    """What an event or a call says about a user. Empty fields say nothing."""

    user_id: str
    name: str = ""
    time_zone: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)
    cleared: frozenset[str] = frozenset()
    """`name` or `time_zone`: from now on there is none."""
    cleared_attributes: frozenset[str] = frozenset()
    clears_other_attributes: bool = False
    """The attributes are all that there are; others are cleared."""

    @property
    def speaks_of_zone(self) -> bool:
        """Whether it says which zone holds, or that none does."""
        return bool(self.time_zone) or "time_zone" in self.cleared


class Run(Struct, frozen=True, array_like=True):
    """Statements of one value, one after the other."""

    value: str | None
    """None: it was cleared."""
    first: int
    """When the first of them was said. Always that of a statement that counts."""
    last: int
    """No later one of them is known. Where the last one was undone it may lie too late, before the next run."""


Runs = tuple[Run, ...]


class Said(Struct, frozen=True, omit_defaults=True):
    """What was said about a user, as stored."""

    name: Run | None = None
    time_zone: Run | None = None
    attributes: dict[str, Runs] = field(default_factory=dict)
    """By name, in the order of time, of two at one instant the one that holds behind the other; never empty."""
    cleared: int | None = None
    """When all attributes were last cleared. What is said of another one from before then needs the ledger."""
    since: int | None = None
    """What held before is not kept. None: everything is."""

    @property
    def plain_name(self) -> str:
        """The name now; empty for none."""
        return (self.name and self.name.value) or ""

    @property
    def plain_time_zone(self) -> str:
        """The zone now; empty for none."""
        return (self.time_zone and self.time_zone.value) or ""

    def plain_attributes(self) -> dict[str, str]:
        """The attributes that hold now."""
        return {key: value for key, runs in self.attributes.items() if (value := runs[-1].value) is not None}


Statement = tuple[UserPatch, int]
"""Something said, and when."""


class Unknown(Exception):
    """What is kept does not decide it."""


class Reading(Struct, frozen=True):
    """Which statements have to be read from the ledger: those made at `since` or later, or all."""

    since: int | None


def micros_of(instant: datetime) -> int:
    """An instant, as it is kept here."""
    return (instant - _EPOCH) // _MICROSECOND


def instant_of(micros: int) -> datetime:
    """The instant."""
    return _EPOCH + micros * _MICROSECOND


def say(said: Said, patch: UserPatch, at: int) -> Said:
    """After one more statement. Of two at one instant the greater text holds, and any text before none: any order
    agrees. Raises `Unknown`.
    """
    name = _newest(said.name, patch.name or None, at, cleared="name" in patch.cleared)
    zone = _newest(said.time_zone, patch.time_zone or None, at, cleared="time_zone" in patch.cleared)
    if not (patch.attributes or patch.cleared_attributes or patch.clears_other_attributes):
        if name is said.name and zone is said.time_zone:
            return said
        return replace(said, name=name, time_zone=zone)
    if said.since is not None and at < said.since:
        raise Unknown
    attributes = dict(said.attributes)
    for key, value in _attribute_statements(patch, said.attributes):
        runs = attributes.get(key, ())
        if len(runs) == 1 and runs[0].value == value and at >= runs[0].last:  # the same as ever
            attributes[key] = (Run(value, runs[0].first, at),)
            continue
        before_all = not runs or at < runs[0].first
        if before_all and said.cleared is not None and at < said.cleared:
            raise Unknown
        attributes[key] = _insert(runs, value, at)
    cleared = said.cleared
    if patch.clears_other_attributes:
        cleared = at if cleared is None else max(cleared, at)
    return Said(name, zone, attributes, cleared, said.since)


def attributes_as_of(said: Said, patch: UserPatch, at: int) -> tuple[dict[str, str], dict[str, str] | None]:
    """The attributes as of an event whose own statement is among what was said, and those of now where they differ.

    What the event carries itself always counts for it. Raises `Unknown`.
    """
    if said.since is not None and at < said.since:
        raise Unknown
    held: dict[str, str] = {}
    newest = True
    for key, runs in said.attributes.items():
        run: Run | None = runs[-1]
        if runs[-1].first > at:
            newest = False
            run = next((run for run in reversed(runs) if run.first <= at), None)
        if run is not None and run.value is not None:
            held[key] = run.value
    if not (patch.attributes or patch.cleared_attributes or patch.clears_other_attributes):
        return held, None if newest or (now := said.plain_attributes()) == held else now
    # Of two statements at one instant the other may hold; for this event its own counts.
    for key, value in _attribute_statements(patch, said.attributes):
        if held.get(key) != value:
            newest = False
            if value is None:
                del held[key]
            else:
                held[key] = value
    if newest:
        return held, None
    now = said.plain_attributes()
    return held, None if now == held else now


def to_read(said: Said, at: int) -> Reading:
    """What has to be read where a statement at this time is `Unknown`."""
    return Reading(None if said.since is not None and at < said.since else at)


def to_read_without(said: Said, patch: UserPatch, at: int) -> Reading | None:
    """What has to be read to take a statement back. None: without it the same was said.

    Others say the same, or say something else at the same instant or later, unless a run begins with it.
    """
    for field_name, value, run in (
        ("name", patch.name, said.name),
        ("time_zone", patch.time_zone, said.time_zone),
    ):
        spoken = value or field_name in patch.cleared
        if spoken and run is not None and (run.first, run.value) == (at, value or None):
            return Reading(None)
    begins = any(
        run.first == at and run.value == spoken_value
        for key, spoken_value in _attribute_statements(patch, said.attributes)
        for run in said.attributes.get(key, ())
    )
    if said.since is not None and at <= said.since:
        # What was cleared so long ago may not be known any more.
        forgotten = patch.clears_other_attributes or not patch.cleared_attributes <= said.attributes.keys()
        return Reading(None) if begins or forgotten else None
    return Reading(at) if begins else None


def without(
    said: Said, patch: UserPatch, at: int, later: Sequence[Statement], until: int | None
) -> Said | None:
    """What was said, without a statement; by the other statements from its time on, which are all up to `until`, or all
    that there are. None where they do not decide it.
    """
    if until is not None and until < at:
        return None
    if said.since is not None and at <= said.since and to_read_without(said, patch, at) is not None:
        return None
    name, zone = said.name, said.time_zone
    if patch.name or "name" in patch.cleared:
        name = _newest_without(name, patch.name, at, [(earlier.name, when) for earlier, when in later])
    if patch.speaks_of_zone:
        zone = _newest_without(
            zone, patch.time_zone, at, [(earlier.time_zone, when) for earlier, when in later]
        )
    if (name is None and said.name is not None) or (zone is None and said.time_zone is not None):
        return None
    spoken: dict[str, list[tuple[int, str | None]]] = {}
    for other, when in later:
        for key, value in _attribute_statements(other, said.attributes):
            spoken.setdefault(key, []).append((when, value))
    attributes = dict(said.attributes)
    for key, value in _attribute_statements(patch, said.attributes):
        runs = attributes.get(key, ())
        if any(run.first == at and run.value == value for run in runs):
            left = _runs_without(runs, at, spoken.get(key, ()), until)
            if left is None:
                return None
            attributes[key] = left
    kept = {key: runs for key, runs in attributes.items() if runs}
    return replace(said, name=name, time_zone=zone, attributes=kept)


def rebuild(said: Said, read: Reading, statements: Iterable[Statement]) -> Said:
    """What was said, from these statements, which are all from `read.since` on; and before that from what is kept."""
    cut = read.since
    known = Said() if cut is None else _until(said, cut)
    heard = [(patch, at) for patch, at in statements if cut is None or at >= cut]
    keys = {*known.attributes, *(key for patch, _ in heard for key in _keys(patch))}
    names: list[tuple[int, str | None]] = []
    zones: list[tuple[int, str | None]] = []
    attributes: dict[str, list[tuple[int, str | None]]] = {key: [] for key in keys}
    cleared = [] if known.cleared is None else [known.cleared]
    for patch, at in heard:
        if patch.name or "name" in patch.cleared:
            names.append((at, patch.name or None))
        if patch.speaks_of_zone:
            zones.append((at, patch.time_zone or None))
        for key, value in _attribute_statements(patch, keys):
            attributes[key].append((at, value))
        if patch.clears_other_attributes:
            cleared.append(at)
    name = _continue((known.name,) if known.name else (), names)
    zone = _continue((known.time_zone,) if known.time_zone else (), zones)
    return Said(
        name[-1] if name else None,
        zone[-1] if zone else None,
        {
            key: runs
            for key, spoken in attributes.items()
            if (runs := _continue(known.attributes.get(key, ()), spoken))
        },
        max(cleared) if cleared else None,
        known.since,
    )


def pruned(said: Said) -> Said:
    """Without the runs that no event is likely to ask for."""
    if said.cleared is None and all(
        len(runs) == 1 and runs[0].value is not None for runs in said.attributes.values()
    ):
        return said
    newest = max((runs[-1].last for runs in said.attributes.values()), default=said.cleared or 0)
    horizon = newest - KEPT_MICROS
    # What would be kept beside the newest value of each attribute, by the time until which it matters.
    needed = sorted(
        (
            until
            for runs in said.attributes.values()
            for until in (
                *(run.first for run in runs[1:]),
                *((runs[-1].last,) if runs[-1].value is None else ()),
            )
        ),
        reverse=True,
    )
    if len(needed) > MOST_RUNS:
        horizon = max(horizon, needed[MOST_RUNS])
    attributes: dict[str, Runs] = {}
    forgotten = [] if said.since is None else [said.since]
    for key, runs in said.attributes.items():
        kept = next((place for place in reversed(range(len(runs))) if runs[place].first <= horizon), 0)
        if runs[-1].value is None and runs[-1].last <= horizon:
            forgotten.append(runs[-1].last)
            continue
        if kept:
            forgotten.append(runs[kept].first)
        attributes[key] = runs[kept:]
    cleared = said.cleared
    if cleared is not None and cleared <= horizon:
        forgotten.append(cleared)
        cleared = None
    return Said(said.name, said.time_zone, attributes, cleared, max(forgotten) if forgotten else None)


def _keys(patch: UserPatch) -> Iterable[str]:
    return (*patch.attributes, *patch.cleared_attributes)


def _attribute_statements(patch: UserPatch, known: Iterable[str]) -> Iterable[tuple[str, str | None]]:
    """What a patch says of attributes; who clears all others says so of each that is known."""
    cleared = patch.cleared_attributes
    if not cleared and not patch.clears_other_attributes:
        return patch.attributes.items()
    spoken: list[tuple[str, str | None]] = list(patch.attributes.items())
    if patch.clears_other_attributes:
        cleared = cleared.union(known)
    spoken += ((key, None) for key in cleared if key not in patch.attributes)
    return spoken


def _newest(run: Run | None, value: str | None, at: int, *, cleared: bool) -> Run | None:
    """The newest run after one more statement: what came before it is never asked for."""
    if value is None and not cleared:
        return run
    if run is None:
        return Run(value, at, at)
    return run if at < run.first else _insert((run,), value, at)[-1]


def _newest_without(run: Run | None, value: str, at: int, later: Iterable[tuple[str, int]]) -> Run | None:
    """The newest run without a statement; None where what was said before it has to be known."""
    if run is None or (run.first, run.value) != (at, value or None):
        return run
    # Where it was cleared nobody said anything else since; only who cleared it again would do.
    first = min(
        (when for other, when in later if value and other == value and when <= run.last), default=None
    )
    return None if first is None else Run(run.value, first, run.last)


def _runs_without(
    runs: Runs, at: int, spoken: Iterable[tuple[int, str | None]], until: int | None
) -> Runs | None:
    """The runs without a statement with which one begins. All that is said later inside that run says the same."""
    holding = next(run for run in reversed(runs) if run.first == at)
    together = sorted({value for when, value in spoken if when == at}, key=_precedence)
    begun = [Run(value, at, at) for value in together]
    if together and together[-1] == holding.value:
        begun[-1] = holding
    else:
        later = [when for when, value in spoken if at < when <= holding.last and value == holding.value]
        if later:
            begun.append(Run(holding.value, min(later), holding.last))
        elif until is not None and until < holding.last:
            return None
    return (*(run for run in runs if run.first < at), *begun, *(run for run in runs if run.first > at))


def _insert(runs: Runs, value: str | None, at: int) -> Runs:
    """The runs after one more statement. Raises `Unknown` where it interrupts one."""
    place = len(runs) - 1
    while place >= 0 and runs[place].first > at:
        place -= 1
    if place < 0:
        if runs and runs[0].value == value:
            return (Run(value, at, runs[0].last), *runs[1:])
        return (Run(value, at, at), *runs)
    run = runs[place]
    if run.value == value:
        if at <= run.last:
            return runs
        return (*runs[:place], Run(value, run.first, at), *runs[place + 1 :])
    if at > run.last:
        later = runs[place + 1 :]
        if later and later[0].value == value:
            return (*runs[: place + 1], Run(value, at, later[0].last), *later[1:])
        return (*runs[: place + 1], Run(value, at, at), *later)
    if at > run.first:
        raise Unknown
    # Two at one instant: both are kept, the one that holds as the later one.
    while place >= 0 and runs[place].first == at and _precedence(runs[place].value) > _precedence(value):
        place -= 1
    beaten = runs[place] if place >= 0 and runs[place].first == at else None
    if beaten is None or beaten.last == at:
        if beaten is not None and beaten.value == value:
            return runs
        return (*runs[: place + 1], Run(value, at, at), *runs[place + 1 :])
    raise Unknown


def _continue(runs: Runs, spoken: Iterable[tuple[int, str | None]]) -> Runs:
    """The runs after statements that are all later."""
    extended = list(runs)
    for at, value in sorted(spoken, key=lambda words: (words[0], _precedence(words[1]))):
        if extended and extended[-1].value == value:
            extended[-1] = Run(value, extended[-1].first, at)
        else:
            extended.append(Run(value, at, at))
    return tuple(extended)


def _until(said: Said, cut: int) -> Said:
    """What is kept of the time before an instant."""

    def before(run: Run) -> Run:
        return run if run.last < cut else Run(run.value, run.first, cut - 1)

    attributes = {
        key: kept
        for key, runs in said.attributes.items()
        if (kept := tuple(before(run) for run in runs if run.first < cut))
    }
    return Said(
        before(said.name) if said.name and said.name.first < cut else None,
        before(said.time_zone) if said.time_zone and said.time_zone.first < cut else None,
        attributes,
        said.cleared,
        said.since,
    )


def _precedence(value: str | None) -> tuple[bool, str]:
    return value is not None, value or ""
