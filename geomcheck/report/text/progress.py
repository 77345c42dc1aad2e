"""Telling people how far a measurement is: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from geomcheck.measurement import Progress as Report
from geomcheck.measurement import Reading
from geomcheck.report.safe import printable
from geomcheck.report.text.screen import GAP, Screen, duration, elide

LOG_EVERY = 30.0
"""Seconds between two lines in a log."""

SHARE = 5
"""The run's name and the bar take one part in so many of the line each."""


class Pace:
    """How far a measurement is, and how fast: by what is done, and by the checkpoints of weights that are not."""

    def __init__(self) -> None:
        self._lock = Lock()
        self.started = self._last = time.monotonic()
        self._before: int | None = None
        self._done = self.at = self.total = 0
        self._within: dict[str, int] = {}
        self.reading_now: Reading | None = None

    def __call__(self, done: int, total: int) -> None:
        """So many entries of all are measured."""
        with self._lock:
            self._before = done if self._before is None else self._before
            self._done, self.total = done, total
            self._within.clear()
            self._move()

    def reading(self, reading: Reading) -> None:
        """A weight is read at a checkpoint."""
        with self._lock:
            self.reading_now = reading
            self._within[reading.weight] = reading.entries
            self._move()

    def _move(self) -> None:
        at = min(self._done + sum(self._within.values()), self.total)
        self._last = time.monotonic()
        self.at = max(self.at, at)

    @property
    def elapsed(self) -> float:
        """Seconds until it last moved."""
        return self._last - self.started

    @property
    def speed(self) -> float:
        """Entries in a second; 0 where that is not known yet."""
        moved = self.at - (self._before or 0)
        return moved / self.elapsed if moved > 0 and self.elapsed > 0 else 0.0

    def left(self, now: float) -> float | None:
        """Seconds that are left; fewer as time goes on. None where that is not known yet."""
        return max(0.0, (self.total - self.at) / self.speed - (now - self._last)) if self.speed else None

    def figures(self, now: float) -> str:
        """How fast, since when and until when, as far as that is known."""
        left = self.left(now)
        known = f"about {duration(left)} left, {_scaled(self.speed)} numbers/s, " if left is not None else ""
        return f"{known}{duration(now - self.started)} so far"

    def what(self, room: int | None = None) -> str:
        """What is being measured: a weight, and the checkpoint that is read; the name in what `room` there is."""
        now = self.reading_now
        if now is None:
            return ""
        weight, place = printable(now.weight.removesuffix(".weight")), f", checkpoint {now.number} of {now.count}"
        return (weight if room is None else elide(weight, max(0, room - len(place)))) + place


@contextmanager
def shown(run: str, screen: Screen) -> Iterator[Report]:
    """What shows progress on `run`, on stderr, as long as the context lasts."""
    console = Console(stderr=True, no_color=None if screen.colour else True)
    if not sys.stderr.isatty() or console.is_dumb_terminal or os.environ.get("CI"):
        yield _Log(printable(run))
        return
    part = max(1, console.width // SHARE)
    pace = Pace()
    with _Bar(pace, part, console) as bar:
        bar.add_task(elide(printable(run), 2 * part), total=1.0)
        yield pace


class _Bar(Progress):
    """A bar, and beneath it how fast it grows and what is being measured."""

    def __init__(self, pace: Pace, part: int, console: Console) -> None:
        self._pace, self._width = pace, console.width
        columns = (
            TextColumn("measuring {task.description}", markup=False),
            BarColumn(part),
            "{task.percentage:>3.0f}%",
        )
        super().__init__(*columns, console=console, transient=True)

    def get_renderables(self) -> Iterator[RenderableType]:
        """The lines."""
        pace, now, room = self._pace, time.monotonic(), self._width - len(GAP)
        for task in self.tasks:
            task.completed = pace.at / pace.total if pace.total else 0.0
        yield from super().get_renderables()
        figures = pace.figures(now)
        what = pace.what(room - len(figures) - 2)
        yield Text(f"{GAP}{figures}{f': {what}' if what else ''}", no_wrap=True, overflow="ellipsis")


class _Log(Pace):
    """Progress in lines, as logs have it."""

    def __init__(self, run: str) -> None:
        super().__init__()
        self._run, self._told = run, self.started

    def _move(self) -> None:
        super()._move()
        if self._last - self._told < LOG_EVERY or not 0 < self.at < self.total or not self.speed:
            return
        self._told = self._last
        what = f": {self.what()}" if self.reading_now else ""
        line = f"{100 * self.at // self.total}%, {self.figures(self._last)}{what}"
        print(f"geomcheck: measuring {self._run}: {line}", file=sys.stderr, flush=True)


def _scaled(number: float) -> str:
    """A number in the unit that leaves one to three digits before the point."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return f"{number:.0f}"
