"""Real servers for every test that needs one: started once a session, a fresh database each test."""

import asyncio
import itertools
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest
import redis
from hypothesis import settings
from hypothesis.internal.conjecture import engine
from xdist.remote import Producer

from deploy.local.postgres import PostgresServer
from deploy.local.valkey import DATABASES, ValkeyServer
from tests.fixtures import clock
from tests.fixtures.databases import ServiceDatabases
from tests.fixtures.directories import quick_place, session_directory
from tests.fixtures.side_by_side import SideBySide

ServiceDatabase = Callable[[str], Awaitable[str]]


# How hard properties are tried, whatever they are of. How long an example takes decides nothing.
settings.register_profile("thorough", max_examples=60, deadline=None)
settings.register_profile("quick", max_examples=10, deadline=None)
settings.load_profile("thorough")
# For how many seconds a failing example is made smaller: no setting. Of its own accord it takes five minutes.
engine.MAX_SHRINKING_SECONDS = 20


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--live-at 2025-06-30T13:30`: tests and the stacks that they start live on another day. `--fuzz-all`: every odd
    value of every field, not one in some. `--whole-history`: the history from its beginning.
    """
    parser.addoption("--live-at", metavar="UTC", type=datetime.fromisoformat, help="an instant of the past")
    parser.addoption(
        "--fuzz-all", action="store_true", help="every odd value of every field of every request"
    )
    parser.addoption(
        "--whole-history", action="store_true", help="all fifteen years of the history, not the last two"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Before tests are imported, since some take the day as they are."""
    instant: datetime | None = config.getoption("--live-at")
    if instant is not None:
        directory = tempfile.TemporaryDirectory(prefix="laurel-clock-")
        config.add_cleanup(directory.cleanup)
        Path(directory.name).chmod(0o755)
        file = Path(directory.name) / "ahead"
        clock.set_to(instant.replace(tzinfo=UTC), file)
        clock.use(file)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> SideBySide:
    """With `-n 2`."""
    return SideBySide(config, log)


@pytest.fixture(scope="session", autouse=True)
async def no_loop_but_the_running_one() -> None:
    """What needs a loop outside of one fails always, and not only after a test that ran a loop of its own."""
    asyncio.set_event_loop(None)


@pytest.fixture(scope="session")
def server_directory() -> Iterator[Path]:
    """Where the servers and stacks of this session live; whatever still runs there at the end is ended."""
    with session_directory() as directory:
        yield directory


@pytest.fixture(scope="session")
def quick_directory() -> Iterator[Path]:
    """Like it, for a server whose data need not last: a database for each test is a few hundred files."""
    with session_directory(quick_place()) as directory:
        yield directory


@pytest.fixture(scope="session")
def postgres_server(quick_directory: Path) -> Iterator[PostgresServer]:
    """A PostgreSQL server for the session. It trades durability for speed; tests must not kill it."""
    server = PostgresServer.start(quick_directory / "postgres", fsync=False)
    yield server
    server.erase()


@pytest.fixture(scope="session")
def valkey_server(server_directory: Path) -> Iterator[ValkeyServer]:
    """A Valkey server for the session; tests must not kill it."""
    server = ValkeyServer.start(server_directory / "valkey")
    yield server
    server.stop()


@pytest.fixture(scope="session")
async def service_databases(postgres_server: PostgresServer) -> AsyncIterator[ServiceDatabases]:
    """The template database of each service, made when first asked for."""
    databases = ServiceDatabases(postgres_server.admin_dsn)
    yield databases
    await databases.close()


@pytest.fixture
async def service_database(service_databases: ServiceDatabases) -> AsyncIterator[ServiceDatabase]:
    """`dsn = await service_database("streak")`: a fresh, migrated database, dropped after the test."""
    created = []

    async def create(service: str) -> str:
        dsn = await service_databases.create(service)
        created.append(dsn)
        return dsn

    yield create
    for dsn in created:
        await service_databases.drop(dsn)


@pytest.fixture(scope="session")
def valkey_database_numbers() -> Iterator[int]:
    """The server's databases in turn, so that what one test left running cannot write into the next one's."""
    return itertools.cycle(range(DATABASES))


@pytest.fixture
def valkey_url(valkey_server: ValkeyServer, valkey_database_numbers: Iterator[int]) -> str:
    """An empty Valkey database."""
    url = valkey_server.database_url(next(valkey_database_numbers))
    with redis.Redis.from_url(url) as client:
        client.flushdb()
    return url


@pytest.fixture
async def empty_database(postgres_server: PostgresServer) -> AsyncIterator[str]:
    """A database without any table."""
    name = f"empty_{uuid4().hex}"
    admin = await asyncpg.connect(postgres_server.admin_dsn)
    await admin.execute(f"CREATE DATABASE {name}")
    yield urlsplit(postgres_server.admin_dsn)._replace(path=f"/{name}").geturl()
    await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await admin.close()
