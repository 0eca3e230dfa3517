"""How far an import has come, on a terminal and in a log."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from services.cli.importing import OnProgress, Progress
from services.cli.render import number

SECONDS_BETWEEN_LINES: Final = 5.0


@contextmanager
def progress_bar(console: Console, size: int) -> Iterator[OnProgress]:
    """A bar on a terminal, else a line every few seconds. `size` is that of the file, in bytes."""
    if not console.is_terminal:
        yield _Lines(console)
        return
    columns = (
        TextColumn("importing"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[events]} events"),
        TimeElapsedColumn(),
    )
    with Bar(*columns, console=console) as bar:
        task = bar.add_task("importing", total=size, events="0")
        yield lambda each: bar.update(task, completed=each.position, events=number(each.event_count))


class _Lines:
    """Prints now and then, so that a log shows that something goes on."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._printed_at = time.monotonic()

    def __call__(self, progress: Progress) -> None:
        if time.monotonic() - self._printed_at < SECONDS_BETWEEN_LINES:
            return
        self._printed_at = time.monotonic()
        percent = 100 * progress.position // max(progress.size, 1)
        self._console.print(f"  {percent:3} %  {number(progress.event_count)} events")
