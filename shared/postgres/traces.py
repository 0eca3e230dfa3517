"""The traces of a user in one database: read, erased and looked for, in bounded statements (RULES 2.7).

What is done to a table follows from its declaration (`shared.traces`) and from the catalogue: its key, by which it is
paged, and its columns. The statements are made of these names alone.
"""

import base64
import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import Any, Final
from uuid import UUID

from asyncpg import Record, UniqueViolationError
from google.protobuf.json_format import MessageToDict
from msgspec import Struct

from shared.errors import Violations
from shared.postgres.pool import Pool
from shared.traces import (
    PSEUDONYM,
    Row,
    Scanned,
    Table,
    Traces,
    concerns,
    names,
    parsed,
    renamed,
    spellings,
)

ROWS_AT_ONCE: Final = 500
SCANNED_AT_ONCE: Final = 5_000
ERASED_AT_ONCE: Final = 2_000


# Partitions are read through their table.
_CATALOGUE: Final = """
    SELECT c.relname AS name,
           array(SELECT a.attname::text FROM pg_attribute a
                  WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum) AS columns,
           array(SELECT format_type(a.atttypid, NULL) FROM pg_attribute a
                  WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum) AS types,
           array(SELECT a.attname::text FROM pg_index i
                   JOIN unnest(i.indkey) WITH ORDINALITY AS part (number, place) ON true
                   JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = part.number
                  WHERE i.indrelid = c.oid AND i.indisprimary ORDER BY part.place) AS key
      FROM pg_class c
     WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition
       AND c.relnamespace = current_schema()::regnamespace
     ORDER BY c.relname
"""


class Shape(Struct, frozen=True):
    """A table as the database has it."""

    name: str
    columns: Mapping[str, str]
    """The type of each."""
    key: tuple[str, ...]

    @property
    def place(self) -> str:
        """The key as a row."""
        return f"({', '.join(self.key)})"

    def after(self, first: int) -> str:
        """The condition for what lies behind a place whose parts are the arguments from `first` on."""
        return f"{self.place} > ({', '.join(f'${first + index}' for index in range(len(self.key)))})"

    @property
    def candidates(self) -> str:
        """The condition for rows that may name a user: `$1` and `$2` are the spellings of the id."""
        conditions = []
        for column, kind in self.columns.items():
            if kind == "bytea":
                conditions.append(f"position(convert_to($1, 'UTF8') IN {column}) > 0")
            elif kind == "bytea[]":
                part = "position(convert_to($1, 'UTF8') IN part) > 0"
                conditions.append(f"EXISTS (SELECT FROM unnest({column}) AS part WHERE {part})")
            elif kind == "text[]":
                conditions.append(f"position($1 IN array_to_string({column}, chr(10))) > 0")
            elif kind in ("text", "character varying"):
                conditions.append(f"position($1 IN {column}) > 0 OR position($2 IN {column}) > 0")
            elif kind in ("json", "jsonb"):
                conditions.append(f"position($1 IN {column}::text) > 0 OR position($2 IN {column}::text) > 0")
        # Both arguments are in it, whatever the columns are.
        return " OR ".join((*conditions, "$1::text || $2::text = ''")) if conditions else ""


class Found(Struct, frozen=True):
    """What a search has come to in one table."""

    table: str
    rows: int
    columns: tuple[str, ...]
    notices: int = 0
    """Of the rows, those that tell of the deletion itself."""


class TraceStore:
    """The rows of users in one database."""

    def __init__(self, pool: Pool, traces: Traces) -> None:
        self._pool = pool
        self._traces = traces
        self._shapes: dict[str, Shape] | None = None

    async def shapes(self) -> dict[str, Shape]:
        """Every table of the database; they do not change while a process runs."""
        if self._shapes is None:
            rows = await self._pool.fetch(_CATALOGUE)
            self._shapes = {
                row["name"]: Shape(
                    row["name"], dict(zip(row["columns"], row["types"], strict=True)), tuple(row["key"])
                )
                for row in rows
            }
        return self._shapes

    async def rows(self, user_id: str, entry_ids: Sequence[UUID]) -> AsyncIterator[tuple[str, str]]:
        """Rows of a user, as table and JSON: those that are found by entries, or where none are given all others."""
        shapes = await self.shapes()
        for table in self._tables(entry_ids):
            shape = shapes[table.name]
            async for row in self._of_user(table, shape, user_id, entry_ids):
                yield table.name, _shown(row, shape, table)
        if entry_ids:
            return
        for scanned in self._traces.scanned:
            async for row, columns in self._naming(shapes[scanned.name], scanned.messages, user_id):
                if _is_about(row, scanned, columns, user_id):
                    yield scanned.name, _shown(row, shapes[scanned.name], scanned)

    async def erase(self, user_id: str, pseudonym: str, entry_ids: Sequence[UUID]) -> tuple[int, bool]:
        """Erases a bounded part of what `rows` shows; how many rows, and whether there may be more."""
        shapes = await self.shapes()
        erased = 0
        for table in self._tables(entry_ids):
            erased += await self._erase_part(table, shapes[table.name], user_id, pseudonym, entry_ids)
            if entry_ids and table.messages:
                await self._rename_others(table, shapes[table.name], user_id, pseudonym, entry_ids)
            if erased >= ERASED_AT_ONCE:
                return erased, True
        if not entry_ids:
            for scanned in self._traces.scanned:
                erased += await self._erase_scanned(scanned, shapes[scanned.name], user_id, pseudonym)
        return erased, False

    async def search(self, user_id: str) -> AsyncIterator[Found]:
        """Every table of the database, with how many of its rows name a user in any column."""
        shapes = await self.shapes()
        notice_of = {each.name: each.notice for each in self._traces.all}
        for shape in shapes.values():
            count = notices = 0
            found: set[str] = set()
            async for row, columns in self._naming(shape, self._traces.messages(shape.name), user_id):
                count += 1
                found.update(columns)
                notices += shape.name in notice_of and notice_of[shape.name](row)
            yield Found(shape.name, count, tuple(sorted(found)), notices)

    def _tables(self, entry_ids: Sequence[UUID]) -> list[Table]:
        return [table for table in self._traces.tables if table.by_entry == bool(entry_ids)]

    async def _of_user(
        self, table: Table, shape: Shape, user_id: str, entry_ids: Sequence[UUID]
    ) -> AsyncIterator[Record]:
        """Rows of a user in the order of the key, a bounded number at a time."""
        given: list[Any] = [user_id] if not table.by_entry else [user_id, list(entry_ids)]
        where = table.where.replace("$3", "$2")
        first = len(given) + 1
        after: list[Any] = []
        while True:
            behind = f"AND {shape.after(first)}" if after else ""
            rows = await self._pool.fetch(
                f"SELECT * FROM {table.name} WHERE ({where}) {behind}"
                f" ORDER BY {', '.join(shape.key)} LIMIT {ROWS_AT_ONCE}",
                *given,
                *after,
            )
            for row in rows:
                yield row
            if len(rows) < ROWS_AT_ONCE:
                return
            after = [rows[-1][column] for column in shape.key]

    async def _naming(
        self, shape: Shape, messages: Mapping[str, Any], user_id: str
    ) -> AsyncIterator[tuple[Record, list[str]]]:
        """Rows of a table that name a user, each with the columns that do. It is read in the order of its key, so many
        rows a statement: none takes long, however large the table is.
        """
        if not shape.candidates:
            return
        spelled = spellings(user_id)
        after: list[Any] = []
        while True:
            behind = f"WHERE {shape.after(3)}" if after else ""
            # The last row comes along in any case: it is where the next part begins.
            rows = await self._pool.fetch(
                f"SELECT * FROM (SELECT *, row_number() OVER () AS row_number_"
                f" FROM (SELECT * FROM {shape.name} {behind} ORDER BY {', '.join(shape.key)}"
                f" LIMIT {SCANNED_AT_ONCE}) AS part) AS numbered"
                f" WHERE row_number_ = {SCANNED_AT_ONCE} OR {shape.candidates}",
                *spelled,
                *after,
            )
            for row in rows:
                columns = [
                    column
                    for column in shape.columns
                    if names(row[column], user_id, _kind(messages, column, row))
                ]
                if columns:
                    yield row, columns
            if not rows or rows[-1]["row_number_"] < SCANNED_AT_ONCE:
                return
            after = [rows[-1][column] for column in shape.key]

    async def _erase_part(
        self, table: Table, shape: Shape, user_id: str, pseudonym: str, entry_ids: Sequence[UUID]
    ) -> int:
        where = table.where.replace("$3", "$2")
        given: list[Any] = [user_id, list(entry_ids)] if table.by_entry else [user_id]
        keys = f"SELECT {', '.join(shape.key)} FROM {table.name} WHERE {where} LIMIT {ERASED_AT_ONCE}"
        part = f"{shape.place} IN ({keys})"
        if table.kept is None:
            statement = f"DELETE FROM {table.name} WHERE {part}"
        else:
            if any(PSEUDONYM in value for value in table.kept.values()):
                given.append(pseudonym)
            sets = ", ".join(
                f"{column} = {value.replace('$2', f'${len(given)}')}" for column, value in table.kept.items()
            )
            statement = f"UPDATE {table.name} SET {sets} WHERE {part}"
        try:
            return _count(await self._pool.execute(statement, *given))
        except UniqueViolationError as error:
            violations = Violations()
            violations.add("pseudonym", f"is somebody's id, who has rows in {table.name}")
            raise violations.error() from error

    async def _rename_others(
        self, table: Table, shape: Shape, user_id: str, pseudonym: str, entry_ids: Sequence[UUID]
    ) -> None:
        """Where entries of others concern the user too, their rows stay and what they say of the user goes."""
        rows = await self._pool.fetch(
            f"SELECT * FROM {table.name} WHERE entry_id = ANY($1::uuid[]) AND user_id <> $2",
            list(entry_ids),
            user_id,
        )
        for row in rows:
            await self._rename(shape, row, table.messages, list(table.messages), user_id, pseudonym)

    async def _rename(
        self,
        shape: Shape,
        row: Record,
        messages: Mapping[str, Any],
        columns: Sequence[str],
        user_id: str,
        pseudonym: str,
    ) -> int:
        place = [row[column] for column in shape.key]
        changed = {
            column: _with_pseudonym(row[column], _kind(messages, column, row), user_id, pseudonym)
            for column in columns
            if _concerns(row[column], _kind(messages, column, row), user_id)
        }
        if not changed:
            return 0
        sets = ", ".join(f"{column} = ${len(place) + index + 1}" for index, column in enumerate(changed))
        key = " AND ".join(f"{column} = ${index + 1}" for index, column in enumerate(shape.key))
        statement = f"UPDATE {shape.name} SET {sets} WHERE {key}"
        return _count(await self._pool.execute(statement, *place, *changed.values()))

    async def _erase_scanned(self, scanned: Scanned, shape: Shape, user_id: str, pseudonym: str) -> int:
        erased = 0
        key = " AND ".join(f"{column} = ${index + 1}" for index, column in enumerate(shape.key))
        async for row, columns in self._naming(shape, scanned.messages, user_id):
            if scanned.notice(row) or not _is_about(row, scanned, columns, user_id):
                continue
            place = [row[column] for column in shape.key]
            if not scanned.kept(row, user_id):
                erased += _count(await self._pool.execute(f"DELETE FROM {shape.name} WHERE {key}", *place))
                continue
            erased += await self._rename(shape, row, scanned.messages, columns, user_id, pseudonym)
        return erased


def _kind(messages: Mapping[str, Any], column: str, row: Row) -> Any:
    return messages[column](row) if column in messages else None


def _is_about(row: Record, scanned: Scanned, columns: Sequence[str], user_id: str) -> bool:
    return any(_concerns(row[column], _kind(scanned.messages, column, row), user_id) for column in columns)


def _concerns(value: Any, kind: Any, user_id: str) -> bool:
    if value is None or kind is None:
        return False
    if isinstance(value, list):
        return any(_concerns(item, kind, user_id) for item in value)
    message = parsed(value, kind)
    return message is not None and concerns(message, user_id)


def _with_pseudonym(value: Any, kind: Any, user_id: str, pseudonym: str) -> Any:
    if isinstance(value, list):
        return [_with_pseudonym(item, kind, user_id, pseudonym) for item in value]
    message = parsed(value, kind)
    if message is None:
        return value
    renamed(message, user_id, pseudonym)
    return message.SerializeToString(deterministic=True)


def _count(status: str) -> int:
    return int(status.rsplit(" ", 1)[1])


def _shown(row: Record, shape: Shape, table: Table | Scanned) -> str:
    """A row as JSON, without what nobody is shown."""
    hidden: Iterable[str] = table.hidden if isinstance(table, Table) else ()
    shown = {
        column: _value(row[column], _kind(table.messages, column, row), kind)
        for column, kind in shape.columns.items()
        if column not in hidden and row[column] is not None
    }
    return json.dumps(shown, ensure_ascii=False)


def _value(value: Any, message: Any, kind: str) -> Any:
    match value:
        case bytes():
            found = parsed(value, message)
            if found is None:
                return base64.b64encode(value).decode()
            return MessageToDict(found, preserving_proto_field_name=True)
        case list():
            return [_value(item, message, kind) for item in value]
        case str() if kind in ("json", "jsonb"):
            return json.loads(value)
        case bool() | int() | float() | str():
            return value
        case datetime() | date():
            return value.isoformat()
        case _:
            return str(value)
