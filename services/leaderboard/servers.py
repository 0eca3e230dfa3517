"""To whom the projection speaks: one Valkey or Redis, or the masters of a cluster.

Commands are sent with the key by which a cluster finds their server. With the answers comes who gave them: the identity
of each server, told by itself in the same round trip and after them.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final, Protocol

from msgspec import Struct
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.exceptions import AskError, ConnectionError, MovedError, NoScriptError

_SERVER: Final = "INFO SERVER"
"""The client has a parser for INFO, which takes apart what nobody reads, and none for this: it sends the same."""
_SERVER_ID: Final = b"run_id:"
_REDIRECTIONS: Final = 5
"""So often a batch is sent again because a slot has moved to another server."""


class Command(Struct, frozen=True):
    """A command and the key that says where it belongs."""

    key: str
    words: tuple[Any, ...]


class Answers(Struct, frozen=True):
    """What came back, in the order of the commands, and the identities of the servers that answered."""

    values: Sequence[Any]
    servers: frozenset[str]


class Servers(Protocol):
    """One server, or several."""

    async def run(self, commands: Sequence[Command]) -> Answers:
        """Send commands. Those for one server arrive in order, and in one round trip. Raises `NoScriptError`."""

    async def run_then(self, commands: Sequence[Command], last: Command) -> Answers:
        """The same, and one that is answered after all others."""

    async def load(self, scripts: Sequence[str]) -> None:
        """Make scripts known everywhere."""

    async def identities(self) -> frozenset[str]:
        """Of all servers that hold keys."""

    def scanned(self, pattern: str, count: int) -> AsyncIterator[Sequence[Any]]:
        """The keys that match, of all servers."""


class OneServer:
    """One Valkey or Redis."""

    def __init__(self, client: Redis) -> None:
        self._client = client

    async def run(self, commands: Sequence[Command]) -> Answers:
        """One round trip."""
        pipe = self._client.pipeline(transaction=False)
        for command in commands:
            pipe.execute_command(*command.words)
        pipe.execute_command(_SERVER)
        *values, information = await pipe.execute()
        return Answers(values, frozenset((_identity(information),)))

    async def run_then(self, commands: Sequence[Command], last: Command) -> Answers:
        """One round trip, for a server answers in order."""
        return await self.run([*commands, last])

    async def load(self, scripts: Sequence[str]) -> None:
        """One round trip each."""
        for script in scripts:
            await self._client.script_load(script)

    async def identities(self) -> frozenset[str]:
        """Of the one."""
        return (await self.run(())).servers

    async def scanned(self, pattern: str, count: int) -> AsyncIterator[Sequence[Any]]:
        """Some at a time."""
        cursor = 0
        while True:
            cursor, names = await self._client.scan(cursor, match=pattern, count=count)
            if names:
                yield names
            if cursor == 0:
                return


class Cluster:
    """The masters of a cluster, each asked in a round trip of its own, side by side."""

    def __init__(self, client: RedisCluster) -> None:
        self._client = client

    async def run(self, commands: Sequence[Command]) -> Answers:
        """Where a slot has moved all is sent again, to whom it belongs now: what is sent may come twice."""
        await self._client.initialize()
        for attempt in range(_REDIRECTIONS):
            try:
                return await self._run(commands)
            except (MovedError, AskError):
                pass
            except ConnectionError:
                if attempt:
                    raise
            await self._client.nodes_manager.initialize()  # asks the servers who has what
        return await self._run(commands)

    async def run_then(self, commands: Sequence[Command], last: Command) -> Answers:
        """Two round trips: servers that answer side by side have no order."""
        first = await self.run(commands)
        second = await self.run([last])
        return Answers([*first.values, *second.values], first.servers | second.servers)

    async def load(self, scripts: Sequence[str]) -> None:
        """On every master."""
        await self._client.initialize()
        for script in scripts:
            await self._client.script_load(script)

    async def identities(self) -> frozenset[str]:
        """Of all masters."""
        await self._client.initialize()
        told = await self._client.execute_command(_SERVER, target_nodes=self._masters())
        return frozenset(map(_identity, told.values() if isinstance(told, dict) else [told]))

    async def scanned(self, pattern: str, count: int) -> AsyncIterator[Sequence[Any]]:
        """Some of one master at a time."""
        await self._client.initialize()
        for node in self._masters():
            cursor = 0
            while True:
                words = ("SCAN", cursor, "MATCH", pattern, "COUNT", count)
                cursors, names = await self._client.execute_command(*words, target_nodes=node)
                cursor = cursors[node.name]
                if names:
                    yield names
                if cursor == 0:
                    break

    async def _run(self, commands: Sequence[Command]) -> Answers:
        by_node: dict[str, tuple[ClusterNode, list[int]]] = {}
        for index, command in enumerate(commands):
            node = self._client.get_node_from_key(command.key)
            assert node is not None  # the cluster covers every slot, else it is down
            by_node.setdefault(node.name, (node, []))[1].append(index)
        pipe = self._client.pipeline()
        for node, indices in by_node.values():
            for index in indices:
                pipe.execute_command(*commands[index].words, target_nodes=node)
            pipe.execute_command(_SERVER, target_nodes=node)
        told = iter(await pipe.execute(allow_redirections=False))
        values: list[Any] = [None] * len(commands)
        servers = set()
        for _, indices in by_node.values():
            for index in indices:
                values[index] = next(told)
            servers.add(_identity(next(told)))
        return Answers(values, frozenset(servers))

    def _masters(self) -> list[ClusterNode]:
        return sorted(self._client.get_primaries(), key=lambda node: node.name)


def servers_of(client: Redis | RedisCluster) -> Servers:
    """Whom this client speaks to."""
    return Cluster(client) if isinstance(client, RedisCluster) else OneServer(client)


async def run_with_scripts(
    servers: Servers, scripts: Sequence[str], commands: Sequence[Command], last: Command
) -> Answers:
    """Run commands that name scripts; a server that is new has forgotten them with all else."""
    try:
        return await servers.run_then(commands, last)
    except NoScriptError:
        await servers.load(scripts)
        return await servers.run_then(commands, last)


def evaluation(sha: str, keys: Sequence[str], arguments: Sequence[Any]) -> Command:
    """A script that is known by its name."""
    return Command(keys[0], ("EVALSHA", sha, len(keys), *keys, *arguments))


def _identity(information: bytes | Mapping[str, str]) -> str:
    if isinstance(information, bytes):
        return information.partition(_SERVER_ID)[2].split(maxsplit=1)[0].decode()
    return str(information["run_id"])
