"""Background work of a process: started again when it fails, stopped with the process."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

_LOGGER: Final = logging.getLogger(__name__)
_FIRST_PAUSE_SECONDS: Final = 0.5
_LONGEST_PAUSE_SECONDS: Final = 30.0
_CANCEL_AGAIN_SECONDS: Final = 0.5

Work = Callable[[], Awaitable[None]]


class Supervisor:
    """Runs each piece of work in a task of its own."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def start(self, name: str, work: Work) -> None:
        """Run `work` until it returns. A crash is logged, and the work started anew after a pause that
        doubles.
        """
        self._tasks[name] = asyncio.create_task(_keep_running(name, work), name=name)

    async def stop(self) -> None:
        """Cancel everything and wait until it has ended.

        A cancellation can get lost on its way: `asyncio.wait_for` of Python 3.11, which client libraries use,
        swallows one that comes as it ends. So it is sent again until it is heeded.
        """
        pending = set(self._tasks.values())
        while pending:
            for task in pending:
                task.cancel()
            _, pending = await asyncio.wait(pending, timeout=_CANCEL_AGAIN_SECONDS)
        self._tasks.clear()


async def _keep_running(name: str, work: Work) -> None:
    loop = asyncio.get_running_loop()
    pause = _FIRST_PAUSE_SECONDS
    while True:
        started = loop.time()
        try:
            await work()
        except Exception:
            _LOGGER.exception("background work crashed and is started again", extra={"work": name})
        else:
            return
        if loop.time() - started > _LONGEST_PAUSE_SECONDS:
            pause = _FIRST_PAUSE_SECONDS
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
