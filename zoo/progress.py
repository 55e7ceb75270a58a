"""Progress of anything that takes more than a few seconds: a bar on a terminal, else a line now and then; nothing for short work."""

import sys
import time
from collections.abc import Generator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

NOTE_SECONDS = 10.0  # between two lines of progress where there is no terminal


def chunks(total: int, size: int, task: str, unit: str = "images", shown: bool = True) -> Generator[tuple[int, int], None, None]:
    """(start, stop) of consecutive pieces of `range(total)`, `size` long, the last one maybe shorter; shows `task`, rate and time left.

    Silent for a single piece, and with `shown=False`: for ranks other than 0.
    """
    shown = shown and total > size
    console = Console(stderr=True)
    rate_column = TextColumn("{task.fields[rate]}")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), rate_column, TimeRemainingColumn())
    began = noted = time.monotonic()
    with Progress(*columns, console=console, disable=not (shown and console.is_terminal), transient=True) as bar:
        row = bar.add_task(task, total=total, rate="")
        for start in range(0, total, size):
            stop = min(start + size, total)
            yield start, stop
            now = time.monotonic()
            rate = stop / max(now - began, 1e-9)
            bar.update(row, completed=stop, rate=f"{rate:,.0f} {unit}/s")
            if shown and not console.is_terminal and now - noted > NOTE_SECONDS:
                noted = now
                left = f"{(total - stop) / rate:.0f} s left"
                print(f"{task}: {stop:,} of {total:,} {unit}, {rate:,.0f} {unit}/s, {left}", file=sys.stderr, flush=True)


@contextmanager
def busy(task: str) -> Generator[None, None, None]:
    """Says what is being done where no share of it can be told: on a terminal, while it lasts."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    with console.status(task):
        yield
