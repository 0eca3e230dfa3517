"""The feed of domain events on a real PostgreSQL: told exactly when it is so, in order, to whoever follows."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import asyncpg
import pytest
from laurel.ledger.v1 import entry_pb2
from laurel.orchestrator.v1 import domain_event_pb2, orchestrator_service_pb2
from pydantic import SecretStr

from services.orchestrator import followers as module
from services.orchestrator.config import Settings
from services.orchestrator.domain_events import told_of
from services.orchestrator.followers import Followers
from services.orchestrator.operations import recorded_entry
from services.orchestrator.recording import Recorded
from services.orchestrator.saga import State
from services.orchestrator.store.domain_events import DomainEventStore
from services.orchestrator.store.sagas import Completed, SagaStore
from shared.errors import InvalidArgument, LaurelError, ResourceExhausted
from shared.postgres.pool import Pool
from tests.fixtures.databases import owner_of
from tests.fixtures.waiting import until
from tests.service.orchestrator.steps import NOON, event, store, take_out

pb = orchestrator_service_pb2
Event = domain_event_pb2.DomainEvent


def completed(recorded: Recorded) -> Completed:
    """As the runner completes an entry."""
    entry = recorded_entry(recorded, "UTC")
    told = told_of(entry, entry.SerializeToString(), b"")
    return Completed(recorded.incoming.entry_id, b"reply", told)


async def complete(pool: Pool, *recorded: Recorded, instance: str = "one") -> None:
    await SagaStore(pool, instance).complete([completed(entry) for entry in recorded])


def followers(pool: Pool, **settings: Any) -> Followers:
    every = {"postgres_dsn": SecretStr("postgresql://unused"), "domain_event_poll_seconds": 0.03, **settings}
    return Followers(DomainEventStore(pool), Settings(**every))


async def page_of(following: Followers, request: pb.ListDomainEventsRequest) -> pb.ListDomainEventsResponse:
    return pb.ListDomainEventsResponse.FromString(await following.list(request))


async def listed(pool: Pool, **request: Any) -> list[Event]:
    return list((await page_of(followers(pool), pb.ListDomainEventsRequest(**request))).events)


async def types(pool: Pool, **request: Any) -> list[str]:
    return [told.type for told in await listed(pool, **request)]


async def test_what_is_completed_is_told_by_whoever_was_the_first(pool: Pool) -> None:
    (entry,) = await store(pool, event("a"))
    assert await types(pool) == []
    for instance in ("one", "two"):
        await complete(pool, entry, instance=instance)
    assert await types(pool) == ["metric.recorded", "user.created"]


async def test_history_leaves_no_row(pool: Pool) -> None:
    (entry,) = await store(pool, event("a"))
    assert await SagaStore(pool, "one").complete([Completed(entry.incoming.entry_id, b"")])
    assert await pool.fetchval("SELECT count(*) FROM domain_events") == 0


async def test_nothing_is_told_of_what_was_not_committed(pool: Pool, dsn: str) -> None:
    """The reply cannot be stored, and so nothing is told."""
    (entry,) = await store(pool, event("a"))
    owner = await asyncpg.connect(owner_of(dsn))
    await owner.execute("ALTER TABLE sagas ADD CONSTRAINT no_reply CHECK (reply IS NULL)")
    await owner.close()
    with pytest.raises(asyncpg.CheckViolationError):
        await complete(pool, entry)
    assert await types(pool) == []


async def test_entries_that_were_completed_together_are_told_as_they_were_recorded(pool: Pool) -> None:
    recorded = await store(pool, *(event(key) for key in "cabdfe"))
    await complete(pool, *recorded)
    told = await listed(pool, types=["metric.recorded"])
    assert [message.entry_id for message in told] == [str(entry.incoming.entry_id) for entry in recorded]
    assert [message.metric.total_after for message in told] == [1, 2, 3, 4, 5, 6]
    sequences = [message.user_sequence for message in told]
    assert sequences == sorted(set(sequences))


async def test_what_was_recorded_after_an_answer_is_told_after_it(pool: Pool) -> None:
    """Whichever replica has it in hand, and whatever is completed meanwhile."""
    entries = []
    (older,) = await store(pool, event("slow", user="bob"))
    for number in range(4):
        (entry,) = await store(pool, event(f"{number}"), instance=f"replica {number % 2}")
        await complete(pool, entry, instance=f"replica {number % 2}")
        entries.append(entry)
    await complete(pool, older)
    told = await listed(pool, types=["metric.recorded"], user_id="ada")
    assert [message.entry_id for message in told] == [str(recorded.incoming.entry_id) for recorded in entries]
    assert [message.user_sequence for message in told] == sorted(message.user_sequence for message in told)


async def test_of_two_under_way_at_once_the_sequence_tells_which_was_recorded_first(pool: Pool) -> None:
    (first,) = await store(pool, event("first"), instance="one")
    (second,) = await store(pool, event("second"), instance="two")
    await complete(pool, second, instance="two")
    await complete(pool, first, instance="one")
    told = await listed(pool, types=["metric.recorded"])
    assert [message.entry_id for message in told] == [
        str(second.incoming.entry_id),
        str(first.incoming.entry_id),
    ]
    assert told[0].user_sequence > told[1].user_sequence


async def test_a_void_is_told_with_a_sequence_above_all_that_was_recorded_before_it(pool: Pool) -> None:
    first, second = await store(pool, event("a"), event("b"))
    await complete(pool, first, second)
    sagas = SagaStore(pool, "one")
    entry_id = second.incoming.entry_id
    await sagas.decide_void(entry_id, "test", "", NOON)
    await take_out(pool, second)
    stored = await pool.fetchval("SELECT correction FROM sagas WHERE entry_id = $1", entry_id)
    told = told_of(entry_pb2.Entry.FromString(stored), stored, b"")
    for _ in range(2):
        await sagas.settle(entry_id, State.VOIDED, b"", told)
    *before, voided, changed = await listed(pool)
    assert (voided.type, voided.voided.entry_id) == ("event.voided", str(entry_id))
    assert (voided.voided.metric, voided.voided.total_after) == ("lessons", 1)
    # The attribute is again what the first event had said.
    assert changed.type == "user.updated"
    (third,) = await store(pool, event("c"))
    assert max(message.user_sequence for message in before) < voided.user_sequence < third.user_sequence


async def test_a_user_is_told_once_as_created_and_again_when_changed(pool: Pool) -> None:
    recorded = [*await store(pool, event("a"), event("b")), *await store(pool, event("b2", seen="x"))]
    await complete(pool, *recorded)
    assert await types(pool, types=["user.created", "user.updated"]) == [
        "user.created",
        "user.updated",
        "user.updated",
    ]


async def test_pages_go_on_where_the_one_before_ended_and_count_what_they_pass_over(pool: Pool) -> None:
    recorded = await store(pool, *(event(f"{n}", user=f"user {n % 3}") for n in range(7)))
    await complete(pool, *recorded)
    cursor, pages = "", []
    following = followers(pool)
    while True:
        request = pb.ListDomainEventsRequest(
            after_cursor=cursor, page_size=2, types=["metric.recorded"], user_id="user 0"
        )
        page = await page_of(following, request)
        pages.append([told.user_id for told in page.events])
        cursor = page.cursor
        if not page.more:
            break
    assert pages == [["user 0"], ["user 0"], [], ["user 0"]]


async def test_a_page_ends_early_with_an_entry_that_says_a_great_deal(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_PAGE_BYTES", 1)
    recorded = await store(pool, event("a"), event("b"))
    await complete(pool, *recorded)
    first = await page_of(followers(pool), pb.ListDomainEventsRequest())
    second = await page_of(followers(pool), pb.ListDomainEventsRequest(after_cursor=first.cursor))
    assert [{told.entry_id for told in page.events} for page in (first, second)] == [
        {str(entry.incoming.entry_id)} for entry in recorded
    ]
    assert first.more


@pytest.mark.parametrize(
    ("request_", "fields"),
    [
        ({"after_cursor": "7"}, ["after_cursor"]),
        ({"types": ["metric.recorded", "none"], "user_id": "\x00"}, ["user_id", "types[1]"]),
        ({"page_size": 1_001}, ["page_size"]),
        ({"page_size": -1}, ["page_size"]),
    ],
)
async def test_a_bad_request_is_refused_by_the_names_of_its_fields(
    pool: Pool, request_: dict[str, Any], fields: list[str]
) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        await followers(pool).list(pb.ListDomainEventsRequest(**request_))
    assert [violation.field for violation in refusal.value.violations] == fields


async def test_old_events_go_and_the_newest_stays(pool: Pool) -> None:
    recorded = await store(pool, event("a"), event("b"), event("c"))
    await complete(pool, *recorded)
    await pool.execute("UPDATE domain_events SET create_time = create_time - interval '40 days'")
    await DomainEventStore(pool).trim(timedelta(days=41))
    assert len(await listed(pool, types=["metric.recorded"])) == 3
    await DomainEventStore(pool).trim(timedelta(days=30))
    assert len(await listed(pool, types=["metric.recorded"])) == 1


@asynccontextmanager
async def watching(following: Followers, **request: Any) -> AsyncIterator["Stream"]:
    """A stream that somebody reads from."""
    stream = Stream(following.watch(pb.WatchDomainEventsRequest(**request)))
    try:
        yield stream
    finally:
        await stream.close()


class Stream:
    """Answers of a stream, one by one."""

    def __init__(self, answers: AsyncIterator[bytes]) -> None:
        self._answers = answers

    async def next(self) -> pb.WatchDomainEventsResponse:
        async with asyncio.timeout(10):
            return pb.WatchDomainEventsResponse.FromString(await anext(self._answers))

    async def rest(self) -> list[pb.WatchDomainEventsResponse]:
        """Until it ends."""
        async with asyncio.timeout(10):
            return [pb.WatchDomainEventsResponse.FromString(answer) async for answer in self._answers]

    async def close(self) -> None:
        await self._answers.aclose()  # type: ignore[attr-defined]


def entries_in(answers: Sequence[pb.WatchDomainEventsResponse]) -> list[str]:
    return [told.entry_id for answer in answers for told in answer.events]


async def test_who_watches_hears_of_what_was_and_of_what_comes(pool: Pool) -> None:
    (first,) = await store(pool, event("a"))
    await complete(pool, first)
    async with watching(followers(pool), types=["metric.recorded"]) as stream:
        answers = [await stream.next()]
        (second,) = await store(pool, event("b"))
        await complete(pool, second)
        answers.append(await stream.next())
    assert entries_in(answers) == [str(recorded.incoming.entry_id) for recorded in (first, second)]
    request = pb.ListDomainEventsRequest(after_cursor=answers[0].cursor, types=["metric.recorded"])
    assert (await page_of(followers(pool), request)).cursor == answers[1].cursor


async def test_who_watches_from_the_newest_on_gets_a_cursor_at_once_and_nothing_of_old(pool: Pool) -> None:
    (first,) = await store(pool, event("a"))
    await complete(pool, first)
    async with watching(followers(pool), after_cursor="newest") as stream:
        start = await stream.next()
        assert (list(start.events), bool(start.cursor)) == ([], True)
        (second,) = await store(pool, event("b"))
        await complete(pool, second)
        assert set(entries_in([await stream.next()])) == {str(second.incoming.entry_id)}


async def test_who_hears_nothing_still_hears_how_far_it_has_come(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SECONDS_BETWEEN_CURSORS", 0.0)
    recorded = await store(pool, event("a"), event("b"))
    await complete(pool, *recorded)
    async with watching(followers(pool), types=["streak.lost"]) as stream:
        answer = await stream.next()
    assert list(answer.events) == []
    assert await types(pool, after_cursor=answer.cursor) == []


async def test_streams_end_in_good_order_with_how_far_they_have_come(pool: Pool) -> None:
    (entry,) = await store(pool, event("a"))
    await complete(pool, entry)
    following = followers(pool)
    async with watching(following, types=["streak.lost"]) as stream:
        rest = asyncio.create_task(stream.rest())
        await until(lambda: has_read(pool), seconds=10, what="the stream looks again, behind what there is")
        following.end()
        (last,) = await rest
    assert list(last.events) == []
    assert await types(pool, after_cursor=last.cursor) == []


async def has_read(pool: Pool) -> bool:
    """Whether the feed has been asked twice: the second time from where the first page ended."""
    calls = await pool.fetchval("SELECT idx_scan FROM pg_stat_user_indexes WHERE relname = 'domain_events'")
    await pool.execute("SELECT pg_stat_force_next_flush()")
    return bool(calls and calls >= 2)


async def test_who_is_one_too_many_is_refused_until_another_one_has_gone(pool: Pool) -> None:
    following = followers(pool, max_domain_event_watchers=1)
    async with watching(following, after_cursor="newest") as first:
        (entry,) = await store(pool, event("a"))
        await complete(pool, entry)
        await first.next()
        async with watching(following) as second:
            with pytest.raises(ResourceExhausted):
                await second.next()
    async with watching(following) as third:
        assert entries_in([await third.next()])


@pytest.mark.parametrize("request_", [{"after_cursor": "x"}, {"types": ["x"]}])
async def test_a_stream_that_asks_for_nonsense_is_refused(pool: Pool, request_: dict[str, Any]) -> None:
    async with watching(followers(pool), **request_) as stream:
        with pytest.raises(LaurelError):
            await stream.next()
