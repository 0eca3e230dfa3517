"""The same statements without the services: what PostgreSQL and Valkey themselves allow.

A worker (see `processes.Worker`): it takes captured traffic (see `instrumented`), the databases as they were when the
capture began, and sends everything again, with the arguments that the services had computed. Nothing is decided and
nothing is called over gRPC; what remains is the driver and the server.
"""

import asyncio
import json
import pickle
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import redis.asyncio
import uvloop

from shared.postgres.pool import Pool, create_pool

_COUNT_EVENTS: Final = "SELECT count(*) FROM entries"
_RECORDS: Final = "INSERT INTO entries"
"""Every group is recorded by one such statement."""
_WARMUP_SHARE: Final = 0.15
_SCRIPT_CALL: Final = "EVALSHA"
_INTROSPECTION: Final = "WITH RECURSIVE typeinfo_tree"
"""The driver asks for the types that it does not know."""


@dataclass(frozen=True, slots=True)
class Sent:
    """One statement, or one pipeline of commands."""

    instant: float
    service: str
    kind: str
    text: str
    arguments: Any

    @property
    def is_of_events(self) -> bool:
        """Statements of the event path begin with an array, of users or entries; what runs on a timer does not."""
        if self.kind == "valkey":
            return any(command[0] == _SCRIPT_CALL for command in self.arguments)
        is_of_driver = self.text.lstrip().startswith(_INTROSPECTION)
        return not is_of_driver and bool(self.arguments) and isinstance(self.arguments[0], list | tuple)


def captured(directory: Path) -> list[Sent]:
    """What the services sent for events, in order."""
    found = []
    for path in directory.glob("*.pickle"):
        service = path.name.partition("-")[0]
        with path.open("rb") as file:
            while file.peek(1):
                instant, kind, text, arguments = pickle.load(file)
                found.append(Sent(instant, service, kind, text, arguments))
    return sorted((each for each in found if each.is_of_events), key=lambda each: each.instant)


async def replay_in_order(pools: Mapping[str, Pool], statements: Sequence[Sent]) -> float:
    """Events a second when one statement is sent after another, as one group after another sends them."""
    first = int(_WARMUP_SHARE * len(statements))
    await _send(pools, statements[:first])
    return await _timed(pools, lambda: _send(pools, statements[first:]))


async def replay_side_by_side(pools: Mapping[str, Pool], statements: Sequence[Sent]) -> float:
    """Events a second when the five databases work at the same time, each at its own statements in order."""
    shares = [[each for each in statements if each.service == name] for name in pools]
    firsts = [int(_WARMUP_SHARE * len(share)) for share in shares]
    for share, first in zip(shares, firsts, strict=True):
        await _send(pools, share[:first])

    async def rest() -> None:
        await asyncio.gather(
            *(_send(pools, share[first:]) for share, first in zip(shares, firsts, strict=True))
        )

    return await _timed(pools, rest)


async def replay_scripts(url: str, pipelines: Sequence[Sent], key_moves: int) -> dict[str, float]:
    """Script calls, and events whose moves they made, a second; on an empty database of the same server."""
    client = redis.asyncio.Redis.from_url(url)
    try:
        await client.flushdb()
        began = time.perf_counter()
        calls = 0
        for each in pipelines:
            pipe = client.pipeline(transaction=False)
            for command in each.arguments:
                if command[0] == _SCRIPT_CALL:
                    pipe.execute_command(*command)
                    calls += 1
            await pipe.execute()
        seconds = time.perf_counter() - began
    finally:
        await client.aclose()
    return {"calls": calls / seconds, "events": key_moves / seconds}


async def _send(pools: Mapping[str, Pool], statements: Sequence[Sent]) -> None:
    for each in statements:
        await pools[each.service].fetch(each.text, *each.arguments)


async def _timed(pools: Mapping[str, Pool], work: Any) -> float:
    before = await pools["orchestrator"].fetchval(_COUNT_EVENTS)
    began = time.perf_counter()
    await work()
    seconds = time.perf_counter() - began
    count: int = await pools["orchestrator"].fetchval(_COUNT_EVENTS) - before
    return count / seconds


async def answer(question: Mapping[str, Any]) -> dict[str, float]:
    """The rates of one way of replaying: `in_order`, `side_by_side` or `scripts`."""
    sent = captured(Path(question["directory"]))
    if question["way"] == "scripts":
        pipelines = [each for each in sent if each.kind == "valkey"]
        return await replay_scripts(question["redis_url"], pipelines, question["events"])
    pools = {
        name: await create_pool(dsn, application_name="laurel-bench", size=2, statement_timeout_ms=30_000)
        for name, dsn in question["dsns"].items()
    }
    try:
        statements = [each for each in sent if each.kind == "sql"]
        way = replay_in_order if question["way"] == "in_order" else replay_side_by_side
        counts = Counter(each.service for each in statements)
        groups = sum(_RECORDS in each.text for each in statements)
        events = await way(pools, statements)
        return {**counts, "groups": groups, "statements": len(statements), "events": events}
    finally:
        for pool in pools.values():
            await pool.close()


def main() -> None:
    """Questions in, answers out, until the input ends."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for line in sys.stdin:
            sys.stdout.write(json.dumps(runner.run(answer(json.loads(line)))) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
