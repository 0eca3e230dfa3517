"""Keys that were shown are known for some seconds (RULES 9.2)."""

import asyncio
from collections.abc import Sequence

import pytest

from shared.errors import Unavailable
from shared.rpc.access import Caller
from shared.rpc.keys import FRESH_SECONDS, Allowed, CachedKeys, Shown, credential_of, hash_of, read_credential

SECRET = "s" * 43
CREDENTIAL = credential_of("0123456789abcdef", SECRET)
ADA = Allowed(Caller("ada", frozenset({2})), None)
GRACE_SECONDS = 60.0


class Orchestrator:
    """Answers as it is told, and keeps what it was asked."""

    def __init__(self, *answers: Allowed | Exception | None) -> None:
        self.answers = list(answers)
        self.asked: list[Shown] = []
        self.now = 1_000.0

    async def resolve(self, shown: Shown) -> Allowed | None:
        self.asked.append(shown)
        await asyncio.sleep(0)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def keys(self) -> CachedKeys:
        return CachedKeys(self.resolve, grace_seconds=GRACE_SECONDS, monotonic=lambda: self.now)


def away() -> Unavailable:
    return Unavailable("away", reason="DEPENDENCY_UNAVAILABLE")


async def test_who_has_a_key_is_asked_once_for_some_seconds() -> None:
    orchestrator = Orchestrator(ADA, ADA)
    keys = orchestrator.keys()
    for _ in range(3):
        assert await keys.caller(CREDENTIAL) == ADA.caller
    assert orchestrator.asked == [Shown("0123456789abcdef", hash_of(SECRET))]
    orchestrator.now += FRESH_SECONDS
    assert await keys.caller(CREDENTIAL) == ADA.caller
    assert len(orchestrator.asked) == 2


async def test_many_calls_at_once_are_one_question() -> None:
    orchestrator = Orchestrator(ADA)
    keys = orchestrator.keys()
    assert await asyncio.gather(*(keys.caller(CREDENTIAL) for _ in range(20))) == [ADA.caller] * 20
    assert len(orchestrator.asked) == 1


async def test_a_key_that_is_taken_back_is_refused_when_it_is_asked_about_again() -> None:
    orchestrator = Orchestrator(ADA, None)
    keys = orchestrator.keys()
    assert await keys.caller(CREDENTIAL) == ADA.caller
    orchestrator.now += FRESH_SECONDS
    assert await keys.caller(CREDENTIAL) is None
    # Nor does it count while nobody can be asked.
    orchestrator.answers = [away()]
    orchestrator.now += FRESH_SECONDS
    with pytest.raises(Unavailable):
        await keys.caller(CREDENTIAL)


async def test_a_known_key_goes_on_to_count_for_a_while_when_nobody_can_be_asked() -> None:
    orchestrator = Orchestrator(ADA, away(), away())
    keys = orchestrator.keys()
    assert await keys.caller(CREDENTIAL) == ADA.caller
    orchestrator.now += GRACE_SECONDS - 1
    assert await keys.caller(CREDENTIAL) == ADA.caller
    orchestrator.now += 1
    with pytest.raises(Unavailable):
        await keys.caller(CREDENTIAL)


async def test_an_unknown_key_does_not_count_when_nobody_can_be_asked() -> None:
    with pytest.raises(Unavailable):
        await Orchestrator(away()).keys().caller(CREDENTIAL)


async def test_a_secret_counts_no_longer_than_it_lives() -> None:
    ending = Allowed(ADA.caller, remaining_seconds=1.0)
    orchestrator = Orchestrator(ending, away())
    keys = orchestrator.keys()
    assert await keys.caller(CREDENTIAL) == ADA.caller
    orchestrator.now += 1
    with pytest.raises(Unavailable):
        await keys.caller(CREDENTIAL)


@pytest.mark.parametrize(
    "credential",
    [
        "",
        "laurel",
        CREDENTIAL[:-1],
        CREDENTIAL + "s",
        CREDENTIAL.upper(),
        CREDENTIAL.replace("_", "-"),
        "x" * 10_000,
    ],
)
async def test_what_is_no_credential_is_nobodys_and_asked_of_nobody(credential: str) -> None:
    orchestrator = Orchestrator()
    assert read_credential(credential) is None
    assert await orchestrator.keys().caller(credential) is None
    assert orchestrator.asked == []


async def test_nothing_that_is_remembered_holds_the_secret() -> None:
    keys = Orchestrator(ADA).keys()
    await keys.caller(CREDENTIAL)
    remembered: Sequence[object] = [*vars(keys).values()]
    assert SECRET not in repr(remembered)
