"""Crash points."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from shared import faults
from shared.config import ConfigurationError

FIRST = faults.declare("tests.faults.first", "for these tests")
SECOND = faults.declare("tests.faults.second", "for these tests")


@pytest.fixture(autouse=True)
def _disarm() -> Iterator[None]:
    yield
    faults.arm("")


async def test_an_unarmed_point_does_nothing() -> None:
    FIRST.hit()
    await FIRST.reach()


def test_an_error_comes_at_the_hit_that_was_asked_for_and_no_other() -> None:
    faults.arm("tests.faults.first=error@2")
    FIRST.hit()
    with pytest.raises(faults.InjectedFault, match=r"tests\.faults\.first"):
        FIRST.hit()
    FIRST.hit()
    SECOND.hit()


async def test_without_a_number_an_error_comes_at_every_hit() -> None:
    faults.arm("tests.faults.first=error")
    for _ in range(2):
        with pytest.raises(faults.InjectedFault):
            await FIRST.reach()


async def test_a_delay_lets_others_run() -> None:
    faults.arm(" tests.faults.first=delay:30 ; tests.faults.second=delay:0.001@1;")
    waiting = asyncio.create_task(FIRST.reach())
    await SECOND.reach()
    assert not waiting.done()
    waiting.cancel()


def test_a_kill_ends_the_process_at_once() -> None:
    program = (
        "from shared import faults\n"
        "point = faults.declare('tests.kill', 'x')\n"
        "faults.arm('tests.kill=kill@3')\n"
        "for count in range(9): print(count, flush=True); point.hit()\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert ended.stdout.split() == ["0", "1", "2"]


def test_every_mistake_is_named_and_nothing_is_armed() -> None:
    wrong = (
        "tests.faults.first=error;nosuch=kill;tests.faults.first=delay;x=explode;tests.faults.second=kill:3"
    )
    with pytest.raises(ConfigurationError) as refusal:
        faults.arm(wrong)
    assert len(refusal.value.problems) == 4
    assert "'nosuch' is not a crash point" in str(refusal.value)
    FIRST.hit()


def test_declared_points_are_listed_with_their_meaning_and_only_once() -> None:
    assert faults.CRASH_POINTS["tests.faults.first"] == "for these tests"
    with pytest.raises(ValueError, match="twice"):
        faults.declare("tests.faults.first", "again")
