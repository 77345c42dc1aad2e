"""Telling people how far a measurement is: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from geomcheck.measurement import Progress as Report
from geomcheck.report.safe import printable
from geomcheck.report.text.screen import Screen, duration, elide

LOG_EVERY = 30.0
"""Seconds between two lines in a log."""

SHARE = 5
"""The run's name and the bar take one part in so many of the line each."""


@contextmanager
def shown(run: str, screen: Screen) -> Iterator[Report]:
    """A function that shows progress on `run`, on stderr, as long as the context lasts."""
    console = Console(stderr=True, no_color=None if screen.colour else True)
    if not sys.stderr.isatty() or console.is_dumb_terminal or os.environ.get("CI"):
        yield _log(printable(run))
        return
    part = max(1, console.width // SHARE)
    name = elide(printable(run), part)
    text = TextColumn("measuring {task.description}", markup=False)
    columns = (text, BarColumn(part), "{task.percentage:>3.0f}%", _Rate(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(name)
        yield lambda done, total: bar.update(task, completed=done, total=total)


class _Rate(ProgressColumn):
    """How many entries of weights are measured in a second."""

    def render(self, task: Task) -> Text:
        """The rate, once there is one."""
        return Text(f"{_scaled(task.speed)}/s" if task.speed else "", style="progress.data.speed", no_wrap=True)


def _log(run: str) -> Report:
    started = last = time.monotonic()

    def report(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= LOG_EVERY and 0 < done < total:
            last = now
            speed = done / (now - started)
            left = duration((total - done) / speed)
            line = f"geomcheck: measuring {run}: {100 * done // total}%, {_scaled(speed)} entries/s, about {left} left"
            print(line, file=sys.stderr, flush=True)

    return report


def _scaled(number: float) -> str:
    """A number in the unit that leaves one to three digits before the point."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return f"{number:.0f}"
