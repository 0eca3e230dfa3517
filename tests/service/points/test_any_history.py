"""After whatever happens, the ledger's sum is the balance, and all of it is what the facts give (RULES 5.1, 5.7)."""

import random
from datetime import UTC, datetime

import pytest
from laurel.participant.v1 import participant_service_pb2 as participant_pb
from laurel.points.v1 import points_pb2 as types
from laurel.points.v1 import points_service_pb2 as pb

from tests.service.points.conftest import Service
from tests.service.points.messages import captured, event, gift, held, released, revert, transfer
from tests.service.points.steps import check_ledger, define, points, send
from tests.service.points.test_holds import maintain

USERS = ("alice", "bob", "carol")
DAY = 24 * 60
MOST = 400


async def define_all(service: Service) -> None:
    """With limits, a cap, boosts, tiers, expiry, and something that comes by time."""
    each = types.MetricPointsTrigger(metric="commits", every=1)
    spending = types.MetricPointsTrigger(metric="spending", every=1)
    boost = types.PointsBoost(key="double", name="Double", multiplier=2, triggers=["each"])
    boost.start_time.FromDatetime(datetime(2025, 3, 3, tzinfo=UTC))
    boost.end_time.FromDatetime(datetime(2025, 3, 20, tzinfo=UTC))
    await define(
        service,
        "xp",
        [
            types.PointsTrigger(key="each", amount=7, metric=each, daily_limit=100),
            types.PointsTrigger(key="toll", amount=-9, metric=spending),
            types.PointsTrigger(key="price", amount=-20, metric=spending, block=True),
            types.PointsTrigger(key="regrow", amount=3, time=types.TimePointsTrigger(every_days=2)),
        ],
        max_balance=MOST,
        daily_cap=120,
        level_basis=types.LEVEL_BASIS_LIFETIME,
        levels=[
            types.Level(key="bronze", name="Bronze", threshold=0),
            types.Level(key="gold", name="Gold", threshold=150, multiplier=1.5),
        ],
        boosts=[boost],
        expiry=types.PointsExpiry(after_days=9),
    )


@pytest.mark.parametrize("seed", range(3))
async def test_after_any_history_the_ledger_adds_up_to_the_balance(service: Service, seed: int) -> None:
    """Awards, gifts, spendings, transfers, holds, expiry and voids, late or not, in any order of arrival."""
    await maintain(service, 0, hold_seconds=3_600)
    await define_all(service)
    rng = random.Random(seed)
    sent: list[tuple[str, str, tuple[str, ...]]] = []
    holds: list[str] = []
    undone = False
    for number in range(80):
        name, user, at = f"e{number}", rng.choice(USERS), max(0, number * 6 * 60 - rng.choice([0, 0, 900]))
        act = rng.random()
        command: participant_pb.Command
        others: tuple[str, ...] = ()
        if act < 0.35:
            command = event(name, rng.randint(1, 6), user=user, minutes=at)
        elif act < 0.42:
            command = event(name, 1, metric="spending", user=user, minutes=at)
        elif act < 0.55:
            command = gift(name, rng.choice([-30, -10, 15, 60]), user=user, minutes=at)
        elif act < 0.7:
            others = (rng.choice([each for each in USERS if each != user]),)
            command = transfer(name, rng.randint(1, 40), giver=user, getter=others[0], minutes=at)
        elif act < 0.77:
            user = "alice"
            command = held(name, rng.randint(1, 30), until=at + rng.choice([30, 3 * DAY]), minutes=at)
            holds.append(name)
        elif act < 0.84 and holds:
            user, hold = "alice", holds.pop(rng.randrange(len(holds)))
            command = rng.choice([captured, released])(name, hold, minutes=at)
        elif act < 0.92 and sent:
            gone, whose, concerned = sent.pop(rng.randrange(len(sent)))
            request = revert(gone, user=whose)
            request.reversals[0].other_user_ids.extend(concerned)
            await service.participant.RevertEntries(request)
            undone = True
            continue
        else:
            await maintain(service, at)
            continue
        [outcome] = await send(service, command)
        if not outcome.HasField("error") and not command.entry.HasField("points_hold"):
            sent.append((name, user, others))
        if number % 20 == 0:
            await check_ledger(service)
    await maintain(service, 80 * 6 * 60)
    await check_ledger(service)
    audit = await service.stub.AuditPoints(pb.AuditPointsRequest())
    assert list(audit.differences) == []
    for user in USERS:
        balance = (await points(service, user))["xp"].balance
        assert undone or 0 <= balance <= MOST
