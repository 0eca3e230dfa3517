"""How many users growth is measured with, and how a row becomes another user's."""

from pathlib import Path
from uuid import UUID

import asyncpg
import pytest
from laurel.orchestrator.v1 import event_pb2

from deploy.bench.events import METRICS, REGIONS, ZONES, Mix, requests
from deploy.bench.fill import catalogue_of
from deploy.bench.fill_tables import COPIED, CREATE_COPIED_ID, SCHEMA, Copied, copy_statement, problems
from deploy.bench.growth import Shape
from deploy.bench.growth_report import MARKS
from deploy.bench.report import publish
from deploy.local.databases import CORE
from tests.conftest import ServiceDatabase

AWARDS = Copied("awards", ids=("award_id",), cut=("note",))


@pytest.mark.parametrize(("users", "events"), [(1_000_000, 10_000_000), (20_000, 200_000), (60, 120)])
def test_there_are_as_many_users_and_events_as_asked_for_and_hardly_more(users: int, events: int) -> None:
    shape = Shape.of(users, events)
    assert users <= shape.users < users + shape.template_users
    assert shape.events == pytest.approx(events, rel=0.1)
    assert 2 <= shape.copies <= 210


@pytest.mark.parametrize("users", [100, 1_000, 20_000, 1_000_000])
def test_a_copy_lives_where_its_template_lives(users: int) -> None:
    template = Shape.of(users, 10 * users).template_users
    assert (template % len(ZONES), template % len(REGIONS)) == (0, 0)


def test_a_copied_row_is_of_another_user_has_other_ids_and_no_bytes() -> None:
    assert copy_statement(AWARDS, ["user_id", "award_id", "amount", "note"], template_users=30, copy=4) == (
        "INSERT INTO awards (user_id, award_id, amount, note) "
        "SELECT 'user-' || lpad((substr(user_id, 6)::integer + 120)::text, 7, '0'), "
        "template.copied_id(award_id, 4), amount, substring(note FROM 1 FOR 0) FROM template.awards"
    )


async def test_a_copied_id_keeps_its_time_and_is_the_same_wherever_it_is_made(empty_database: str) -> None:
    connection = await asyncpg.connect(empty_database)
    try:
        await connection.execute(f"CREATE SCHEMA {SCHEMA}")
        await connection.execute(CREATE_COPIED_ID)
        original = UUID("01a200d1-bcf8-8bde-820e-ccd40967ef07")
        row = await connection.fetchrow(
            "SELECT template.copied_id($1, 1), template.copied_id($1, 1), template.copied_id($1, 2), "
            "template.copied_id(NULL, 1)",
            original,
        )
    finally:
        await connection.close()
    assert row is not None
    first, again, second, none = row
    assert first == again == UUID("01a200d1-bcf8-8afb-a19f-e66d9c208e45")
    assert len({original, first, second}) == 3
    assert {each.int >> 80 for each in (original, first, second)} == {0x01A200D1BCF8}
    assert {(each.version, each.variant) for each in (first, second)} == {(8, original.variant)}
    assert none is None


@pytest.mark.parametrize("service", CORE)
async def test_every_table_is_copied_or_known_to_hold_no_users(
    service: str, service_database: ServiceDatabase
) -> None:
    connection = await asyncpg.connect(await service_database(service))
    try:
        assert list(problems(service, await catalogue_of(connection))) == []
    finally:
        await connection.close()


def test_a_table_or_column_that_nobody_thought_of_is_told() -> None:
    catalogue = {each.table: _columns(each) for each in COPIED["streak"]}
    assert list(problems("streak", catalogue)) == []
    catalogue["wishes"] = {"user_id": "text"}
    catalogue["periods"] |= {"cause_id": "uuid"}
    del catalogue["users"]["user_id"]
    del catalogue["freeze_ledger"]
    assert list(problems("streak", catalogue)) == [
        "streak.wishes is new: say whether it holds rows of users",
        "streak.users names its users otherwise than in user_id",
        "streak.periods has other UUIDs than entry_id",
        "streak.freeze_ledger is not there",
    ]


def test_history_lies_where_it_is_put_an_event_after_another() -> None:
    mix = Mix(users=3, every_user_once=True, first_occurred_ms=1_700_000_000_000)
    events = [event_pb2.IngestEventRequest.FromString(body) for body in requests(mix)]
    assert len(events) == 3 * len(METRICS)
    assert [each.occur_time.ToMilliseconds() for each in events[:2]] == [1_700_000_000_000, 1_700_000_000_100]


def test_figures_replace_those_between_their_marks_and_nothing_else(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{MARKS[0]}\nold\n{MARKS[1]}\nafter\n")
    publish(page, "new", MARKS)
    assert page.read_text() == f"before\n{MARKS[0]}\n\nnew\n{MARKS[1]}\nafter\n"


def _columns(copied: Copied) -> dict[str, str]:
    users = {copied.user: "text"} if copied.user else {}
    return users | dict.fromkeys(copied.ids, "uuid") | dict.fromkeys(copied.cut, "bytea")
