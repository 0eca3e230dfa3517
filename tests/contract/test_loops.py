"""Every coroutine of the tests runs in the session's loop: what is made in one loop is of no use in another."""

import asyncio
import re
from pathlib import Path
from typing import Final

import pytest

TESTS: Final = Path(__file__).parents[1]
LOOP_OF_ITS_OWN: Final = re.compile(r"asyncio\.(run\(|Runner\(|new_event_loop|set_event_loop)")
PROGRAMS: Final = {TESTS / "chaos/run.py", TESTS / "upgrade/run.py"}
"""They run by themselves, in no session of tests."""
SESSION: Final = TESTS / "conftest.py"


def test_outside_of_the_running_loop_there_is_none() -> None:
    with pytest.raises(RuntimeError, match="no current event loop"):
        asyncio.get_event_loop()


def test_no_test_runs_a_loop_of_its_own() -> None:
    sources = set(TESTS.rglob("*.py")) - {*PROGRAMS, SESSION}
    found = [path for path in sources if LOOP_OF_ITS_OWN.search(path.read_text())]
    assert found == []
