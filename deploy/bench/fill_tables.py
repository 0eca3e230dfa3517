"""What a user consists of: the tables of all five databases, and how a row becomes the same row of another user. Pure.

A copy of a user gets an id of its own, and so does everything that has a UUID. A new UUID is made from the old one and
the number of the copy, by the same function in every database: so services agree on the ids of events, awards and
completions. It keeps the first 48 bits, which are the time of the event (docs/adr/0010).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

Catalogue = Mapping[str, Mapping[str, str]]
"""The tables of a database, and the types of their columns in order; of a partitioned table, the whole."""


@dataclass(frozen=True, slots=True)
class Copied:
    """A table whose rows belong to users or their events."""

    table: str
    user: str = "user_id"
    """The column with the user's id; empty for none."""
    ids: tuple[str, ...] = ()
    """The columns with UUIDs."""
    cut: tuple[str, ...] = ()
    """Bytes that an event never reads again, only a replay or an undo of what they are of: copies have none."""


COPIED: Final[Mapping[str, tuple[Copied, ...]]] = {
    "orchestrator": (
        Copied("users"),
        Copied("totals", ids=("newest_id",)),
        Copied("unique_values", ids=("first_id",)),
        Copied("entries", ids=("entry_id", "origin_id"), cut=("digest", "request", "entry")),
        Copied("metric_rollups"),
        Copied("metric_days"),
        Copied("entry_keys", user="", ids=("key_id", "entry_id")),
        Copied("sagas", ids=("entry_id",), cut=("reply",)),
    ),
    "streak": (
        Copied("users"),
        # States name the newest events of a period, to tell which of two at one instant is the later one. Those names
        # stay the template's.
        Copied("streak_states"),
        Copied("periods", ids=("entry_id",)),
        Copied("freeze_ledger"),
        Copied("zone_changes", ids=("entry_id",)),
        Copied("contributions", ids=("entry_id",)),
        Copied("request_log", ids=("entry_id",), cut=("digest", "outcome")),
    ),
    "achievement": (
        Copied("users"),
        Copied("sources"),
        Copied("accumulators"),
        Copied("completion_facts", ids=("completion_id", "cause_id", "entry_id")),
        Copied("live_completions", ids=("completion_id", "entry_id", "cause_id")),
        Copied("streak_reaches", ids=("entry_id",)),
        Copied("revisions", ids=("entry_id",)),
        Copied("request_log", ids=("entry_id",), cut=("digest", "outcome")),
    ),
    "points": (
        Copied("users"),
        Copied("balances"),
        Copied("trigger_states"),
        Copied("completions", ids=("completion_id",)),
        Copied(
            "awards", ids=("award_id", "entry_id", "completion_id", "reversed_award_id", "cause_entry_id")
        ),
        Copied("request_log", ids=("entry_id",), cut=("digest", "outcome")),
    ),
    "leaderboard": (
        Copied("users"),
        Copied("earnings", ids=("entry_id",)),
        Copied("lengths"),
        Copied("scores", ids=("entry_id",)),
        Copied("rank_events", ids=("entry_id",)),
        Copied("request_log", ids=("entry_id",), cut=("digest", "outcome")),
    ),
}

OF_NOBODY: Final = frozenset(
    {
        "admin_operations",
        "amnesty_passes",
        "backfills",
        "cohorts",
        "configuration_version",
        "definition_history",
        "definition_writes",
        "definitions",
        "endings",
        "examination",
        "feed_cursors",
        "feed_lives",
        "findings",
        "instances",
        "kept_days",
        "level_days",
        "relevellings",
        "told_boosts",
        "keys",
        "maintenance",
        "metric_sweep",
        "mutation_log",
        "projection",
        "run_starts",
        "runs",
        "schema_migrations",
        "segments",
        "streak_backfills",
        "terms",
        "tracked_tops",
    }
)
"""Tables that do not grow with users or events."""

EMPTY: Final[Mapping[str, tuple[str, ...]]] = {
    "streak": ("feed",),
    "achievement": ("feed", "withheld_completions"),
    "points": ("feed", "revisions"),
    "leaderboard": ("archive", "early_revisions", "prizes", "seats", "divisions", "daily_ranks"),
}
"""Tables of users that the template leaves empty, because their rows cannot be multiplied one by one: a feed is read in
its order, and an archive numbers its members."""

OF_THE_TEMPLATE: Final[Mapping[str, tuple[str, ...]]] = {
    "orchestrator": ("domain_events", "metric_day_totals"),
    "leaderboard": ("feed",),
}
"""Tables that stay the template's: domain events are added at the end, kept for a time, and read by none of what is
measured; sums over all users are added to, however large they are. The leaderboard's feed tells of runs, which begin at
any hour; what it tells of users has rows in `archive`, `prizes` or `divisions` too, which have to be empty."""

SCHEMA: Final = "template"
CREATE_COPIED_ID: Final = """
    CREATE FUNCTION template.copied_id(id uuid, copy integer) RETURNS uuid LANGUAGE sql IMMUTABLE STRICT RETURN
        (left(id::text, 14) || '8' || overlay(left(md5(id::text || copy), 19) PLACING 'a' FROM 4 FOR 1))::uuid
"""
"""The first 48 bits are kept, then comes the version, then what the copy decides, with the variant in it (RFC 9562)."""
_COPY: Final = "INSERT INTO {table} ({columns}) SELECT {values} FROM template.{table}"
_USER: Final = "'user-' || lpad((substr({column}, 6)::integer + {offset})::text, 7, '0')"
_ID: Final = "template.copied_id({column}, {copy})"
_CUT: Final = "substring({column} FROM 1 FOR 0)"


def problems(database: str, catalogue: Catalogue) -> Iterator[str]:
    """What keeps the tables above from being all there is to copy, as sentences; nothing when all is well."""
    copied = {each.table: each for each in COPIED[database]}
    known = OF_NOBODY | copied.keys() | {*EMPTY.get(database, ()), *OF_THE_TEMPLATE.get(database, ())}
    for table in sorted(catalogue.keys() - known):
        yield f"{database}.{table} is new: say whether it holds rows of users"
    for table, each in copied.items():
        columns = catalogue.get(table)
        if columns is None:
            yield f"{database}.{table} is not there"
            continue
        if {column for column, kind in columns.items() if kind == "uuid"} != set(each.ids):
            yield f"{database}.{table} has other UUIDs than {', '.join(each.ids) or 'none'}"
        if ("user_id" if "user_id" in columns else "") != each.user:
            yield f"{database}.{table} names its users otherwise than in {each.user or 'no column'}"
        for column in each.cut:
            if columns.get(column) != "bytea":
                yield f"{database}.{table}.{column} holds no bytes to cut"


def copy_statement(copied: Copied, columns: Sequence[str], template_users: int, copy: int) -> str:
    """Adds a copy (from 1) of the template's rows. User n of the template becomes n + copy * template_users."""

    def value(column: str) -> str:
        if column == copied.user:
            return _USER.format(column=column, offset=copy * template_users)
        if column in copied.ids:
            return _ID.format(column=column, copy=copy)
        return _CUT.format(column=column) if column in copied.cut else column

    return _COPY.format(table=copied.table, columns=", ".join(columns), values=", ".join(map(value, columns)))
