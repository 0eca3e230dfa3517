"""The definitions as they were when facts came: what facts were judged by stays what they are judged by (RULES 5.1)."""

from collections.abc import Sequence
from typing import Final

from laurel.points.v1 import points_pb2

from services.points.definitions import Configuration, catalogue_from
from services.points.domain.definitions import Catalogue
from services.points.domain.dependence import Dependence
from shared.postgres.pool import Connection, Pool

LEARN: Final = "SELECT version, key, body FROM terms WHERE version <> ALL($1::bigint[]) ORDER BY version, key"
KEEP: Final = """
    INSERT INTO terms (version, key, body) SELECT $1, * FROM unnest($2::text[], $3::bytea[])
        ON CONFLICT (version, key) DO NOTHING
"""


class Terms:
    """The definitions of every version that is known here. One more is learnt once, by each replica."""

    def __init__(self) -> None:
        self._catalogues: dict[int, Catalogue] = {}
        self._kept: set[int] = set()

    def at(self, version: int) -> Catalogue:
        """The definitions of a version that was learnt; none where it had none."""
        return self._catalogues.get(version, _NOTHING)

    def knows(self, version: int) -> bool:
        """Whether a version needs not be learnt."""
        return version in self._catalogues

    @property
    def ever_day_limited(self) -> frozenset[str]:
        """The systems that ever had limits of a day, or cooldowns."""
        return frozenset().union(*(catalogue.day_limited for catalogue in self._catalogues.values()))

    def dependence(self, points_system: str) -> Dependence:
        """On what earlier facts the system's awards ever depended."""
        versions = (catalogue.systems.get(points_system) for catalogue in self._catalogues.values())
        return Dependence.of([system for system in versions if system])

    @property
    def versions(self) -> Sequence[Catalogue]:
        """The definitions of every version that is known here, oldest first."""
        return [self._catalogues[version] for version in sorted(self._catalogues)]

    def note(self, configuration: Configuration) -> None:
        """A version by which no fact may have been judged yet."""
        self._catalogues.setdefault(configuration.catalogue.version, configuration.catalogue)

    async def learn(self, source: Pool | Connection) -> None:
        """Every version that is not known yet."""
        versions: dict[int, list[points_pb2.PointsSystem]] = {}
        for row in await source.fetch(LEARN, list(self._catalogues)):
            versions.setdefault(row["version"], []).append(points_pb2.PointsSystem.FromString(row["body"]))
        for version, messages in versions.items():
            self._catalogues[version] = catalogue_from(messages, version)

    async def keep(
        self, source: Pool | Connection, configuration: Configuration, *, for_good: bool = True
    ) -> None:
        """Before the first fact is judged by a version, its definitions are stored. No round trip after that.

        `for_good`: not in a transaction that may still be undone.
        """
        version = configuration.catalogue.version
        if version in self._kept:
            return
        bodies = {key: system.SerializeToString() for key, system in configuration.messages.items()}
        await source.execute(KEEP, version, list(bodies), list(bodies.values()))
        self._catalogues[version] = configuration.catalogue
        if for_good:
            self._kept.add(version)


_NOTHING: Final = Catalogue()
