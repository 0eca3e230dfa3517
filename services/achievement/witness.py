"""What other services know of the past: the orchestrator is asked, off the way of events."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, TypeVar
from uuid import UUID

import grpc.aio
from laurel.orchestrator.v1 import orchestrator_service_pb2 as pb
from laurel.orchestrator.v1 import orchestrator_service_pb2_grpc

from services.achievement import convert
from services.achievement.domain import Achievement, Attributes, Reach, StreakTrigger
from shared.entries import UserSnapshot
from shared.errors import Violations
from shared.rpc.channel import call
from shared.rpc.entries import user_from_proto

T = TypeVar("T")

AT_ONCE: Final = 1_000
"""Entries, or users, of one question."""
_MAX_REACHES: Final = 10_000
_NOTHING_SAID: Final = Attributes({}, {}, known=False)

Reaches = tuple[int, tuple[tuple[int, Reach], ...]]
"""The version of a user's streak, and by length with which event it was first reached."""


class Witness:
    """Asks the orchestrator. Its methods raise `LaurelError` when that does not answer."""

    def __init__(self, channel: grpc.aio.Channel, timeout_seconds: float) -> None:
        self._stub = orchestrator_service_pb2_grpc.OrchestratorServiceStub(channel)
        self._timeout_seconds = timeout_seconds

    async def attributes(self, entry_ids: Iterable[UUID]) -> dict[UUID, Attributes]:
        """What filters look at, of each of these entries; of one that the ledger has not, nothing."""
        said = dict.fromkeys(entry_ids, _NOTHING_SAID)
        for ids in _parts(sorted(said), AT_ONCE):
            request = pb.ListEntryAttributesRequest(entry_ids=map(str, ids))
            answer = await call(
                self._stub.ListEntryAttributes, request, timeout_seconds=self._timeout_seconds
            )
            for entry in answer.entries:
                said[UUID(entry.entry_id)] = Attributes(
                    dict(entry.event_attributes), dict(entry.user_attributes)
                )
        return said

    async def users(self, user_ids: Sequence[str]) -> dict[str, UserSnapshot | None]:
        """What holds of each of these users; None of one that is not known."""
        found: dict[str, UserSnapshot | None] = dict.fromkeys(user_ids)
        for ids in _parts(sorted(found), AT_ONCE):
            request = pb.ListUserSnapshotsRequest(user_ids=ids)
            answer = await call(self._stub.ListUserSnapshots, request, timeout_seconds=self._timeout_seconds)
            for index, user in enumerate(answer.users):
                found[user.user_id] = user_from_proto(user, f"users[{index}]", Violations())
        return found

    async def reaches(self, achievement: Achievement, user_ids: Sequence[str]) -> Mapping[str, Reaches]:
        """Of each of these users who has the streak: with which events the lengths were reached that may earn it."""
        assert isinstance(achievement.trigger, StreakTrigger)
        # Any greater length may be the first that somebody reached who could earn it; else each multiple counts.
        many = achievement.is_selective or achievement.repeatable
        found: dict[str, Reaches] = {}
        at_once = 50 if many else AT_ONCE
        for ids in _parts(sorted(user_ids), at_once):
            request = pb.ListStreakReachesRequest(
                streak=achievement.trigger.streak,
                user_ids=ids,
                least_length=achievement.trigger.length,
                most_count=_MAX_REACHES if many else 1,
            )
            answer = await call(self._stub.ListStreakReaches, request, timeout_seconds=self._timeout_seconds)
            for user in answer.users:
                found[user.user_id] = (user.version, convert.reaches_of(user))
        return found


def _parts(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[first : first + size] for first in range(0, len(items), size))
