"""Those who watch one user hear what changes from then on, all by one reading of the feed."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest
from laurel.orchestrator.v1 import orchestrator_service_pb2
from pydantic import SecretStr

from services.orchestrator import watching as module
from services.orchestrator.config import Settings
from services.orchestrator.store.domain_events import DomainEventStore
from services.orchestrator.watching import UserWatchers
from shared.errors import InvalidArgument, ResourceExhausted
from shared.postgres.pool import Pool
from tests.service.orchestrator.steps import event, store
from tests.service.orchestrator.test_domain_events import complete

pb = orchestrator_service_pb2
RECORDED = "metric.recorded"


class CountedReads(DomainEventStore):
    """The feed, and how many rows were read of it."""

    rows = 0

    async def after(self, place: Any, limit: int) -> Any:
        page = await super().after(place, limit)
        self.rows += len(page.rows)
        return page


@asynccontextmanager
async def watched(pool: Pool, **settings: Any) -> AsyncIterator[tuple[UserWatchers, CountedReads]]:
    """Ended when the block is left."""
    every = {"postgres_dsn": SecretStr("postgresql://unused"), "domain_event_poll_seconds": 0.03, **settings}
    feed = CountedReads(pool)
    watchers = UserWatchers(feed, Settings(**every))
    reading = asyncio.create_task(watchers.run())
    try:
        yield watchers, feed
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


async def begun(watchers: UserWatchers, user_id: str, *types: str) -> AsyncIterator[bytes]:
    """A stream that has said that it is there."""
    stream = watchers.watch(pb.WatchUserRequest(user_id=user_id, types=types))
    assert not (await next_of(stream)).events
    return stream


async def next_of(stream: AsyncIterator[bytes]) -> pb.WatchUserResponse:
    async with asyncio.timeout(20):
        return pb.WatchUserResponse.FromString(await anext(stream))


async def happen(pool: Pool, *users: str) -> list[str]:
    """An event of each; the ids of their entries."""
    entries = await store(pool, *(event(str(uuid4()), user) for user in users))
    await complete(pool, *entries)
    return [str(entry.incoming.entry_id) for entry in entries]


async def test_who_watches_a_user_hears_of_that_user_alone_and_of_nothing_before(pool: Pool) -> None:
    await happen(pool, "ada")
    async with watched(pool) as (watchers, feed):
        ada, bob = await begun(watchers, "ada", RECORDED), await begun(watchers, "bob", RECORDED)
        adas, bobs, _ = await happen(pool, "ada", "bob", "cleo")
        for stream, entry_id in ((ada, adas), (bob, bobs)):
            (told,) = (await next_of(stream)).events
            assert (told.entry_id, told.type) == (entry_id, RECORDED)
        assert feed.rows == 3


async def test_whoever_comes_later_misses_nothing_of_what_is_committed_then(pool: Pool) -> None:
    async with watched(pool) as (watchers, _):
        first = await begun(watchers, "ada", RECORDED)
        for _ in range(3):
            late = await begun(watchers, "ada", RECORDED)
            (entry_id,) = await happen(pool, "ada")
            assert (await next_of(first)).events[0].entry_id == entry_id
            heard = [told.entry_id for told in (await next_of(late)).events]
            assert heard[-1] == entry_id
            await late.aclose()  # type: ignore[attr-defined]


async def test_nothing_is_read_while_nobody_watches(pool: Pool) -> None:
    async with watched(pool) as (watchers, feed):
        stream = await begun(watchers, "ada")
        await stream.aclose()  # type: ignore[attr-defined]
        again = await begun(watchers, "ada", RECORDED)
        (entry_id,) = await happen(pool, "ada")
        assert (await next_of(again)).events[0].entry_id == entry_id
        assert feed.rows == 1


async def test_who_reads_too_slowly_is_told_to_read_the_user_again(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MOST_WAITING", 2)
    async with watched(pool) as (watchers, _):
        slow, other = await begun(watchers, "ada", RECORDED), await begun(watchers, "bob", RECORDED)
        for _ in range(3):
            await happen(pool, "ada")
        await happen(pool, "bob")
        await next_of(other)
        with pytest.raises(ResourceExhausted):
            await next_of(slow)


async def test_no_more_watch_than_there_is_room_for(pool: Pool) -> None:
    async with watched(pool, max_user_watchers=1) as (watchers, _):
        stream = await begun(watchers, "ada")
        with pytest.raises(ResourceExhausted):
            await begun(watchers, "bob")
        await stream.aclose()  # type: ignore[attr-defined]
        await begun(watchers, "bob")


async def test_streams_end_in_good_order_when_the_process_does(pool: Pool) -> None:
    async with watched(pool) as (watchers, _):
        stream = await begun(watchers, "ada")
        watchers.end()
        assert [answer async for answer in stream] == []


async def test_what_is_wrong_with_a_request_is_said(pool: Pool) -> None:
    async with watched(pool) as (watchers, _):
        with pytest.raises(InvalidArgument) as refused:
            await begun(watchers, "", "no.type")
    assert {violation.field for violation in refused.value.violations} == {"user_id", "types[0]"}
