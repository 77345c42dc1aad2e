"""Telling people how far a measurement is: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from geomcheck.measurement import Progress as Report

LOG_EVERY = 30.0
"""Seconds between two lines in a log."""


@contextmanager
def shown(run: str) -> Iterator[Report]:
    """A function that shows progress on `run`, on stderr, as long as the context lasts."""
    if not sys.stderr.isatty():
        yield _log(run)
        return
    columns = (TextColumn("measuring {task.description}"), BarColumn(), "{task.percentage:>3.0f}%")
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(run)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _log(run: str) -> Report:
    started = last = time.monotonic()

    def report(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= LOG_EVERY and 0 < done < total:
            last = now
            left = (now - started) * (total - done) / done
            line = f"geomcheck: measuring {run}: {100 * done // total}%, about {left:.0f} s left"
            print(line, file=sys.stderr, flush=True)

    return report
