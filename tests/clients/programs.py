"""The guides' programs: one for each language, all of them printing the same."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

OUTPUT: Final = """\
commits: 0 -> 1
  streak       daily-commits: 1 (extended)
  achievement  First commit
  points       xp: +135 = 135
  leaderboard  commits: rank 1, score 1
the same key again: replayed, total 1
refused: METRIC_NOT_FOUND by orchestrator.laurel: no metric has the key 'no-such-metric'
refused: INVALID_FIELDS by orchestrator.laurel: user.user_id: must have 1 to 255 characters (and 1 more)
  user.user_id: must have 1 to 255 characters
  value: must not be zero
"""
"""What each prints that talks to tests/fixtures/ingest.py."""


async def run(command: Sequence[str], directory: Path, environment: Mapping[str, str] | None = None) -> str:
    """What a program prints; the test fails with what it says on standard error when it fails."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=directory,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        output, errors = await process.communicate()
    except BaseException:
        process.kill()
        raise
    assert process.returncode == 0, f"{command[0]} ended with {process.returncode}:\n{errors.decode()}"
    return output.decode()
