"""Replicas are replaced by newer ones while callers go on (docs/operations/upgrade.md)."""

from pathlib import Path

import pytest

from tests.upgrade.release import NoHistoryError, released_commit
from tests.upgrade.run import ORDER, upgrade

LONGEST_WAIT_SECONDS = 30.0


@pytest.mark.timeout(600)
async def test_every_replica_of_the_last_release_is_replaced_under_load_and_nothing_is_lost(
    server_directory: Path,
) -> None:
    try:
        report = await upgrade(server_directory / "upgrade", released_commit())
    except NoHistoryError as error:
        pytest.skip(str(error))
    assert report.wrong == [], report.text()
    assert len(report.steps) == len(ORDER) + 2
    # A call that fails is answered when it is made again; none of them fails for good (`Load` would say so).
    assert report.slowest < LONGEST_WAIT_SECONDS, report.text()
