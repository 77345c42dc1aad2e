"""Following a run to its end: when to measure, what to wait for, and when it is over."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from enum import IntEnum
from pathlib import Path
from typing import Protocol

from geomcheck.checkpoints import Checkpoint, Run
from geomcheck.checkpoints.discovery.steps import recognise
from geomcheck.errors import NoCheckpoint, RunError
from geomcheck.live.directory.run import FollowedRun
from geomcheck.live.snapshot import Snapshot
from geomcheck.measurement import Progress

SINGLE = "a single model"


class Code(IntEnum):
    """How following a run ends; the numbers are pytest's, but for that of Ctrl-C, which is that of shells."""

    HOLDS = 0
    VIOLATED = 1
    NOTHING_CHECKED = 5
    INTERRUPTED = 130


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How often to read the directory, and when to stop.

    Attributes:
        every: seconds between two readings.
        idle: seconds without a new checkpoint after which the run counts as ended; None waits for its last step.
        once: read once.
    """

    every: float = 15.0
    idle: float | None = None
    once: bool = False


@dataclass(frozen=True)
class End:
    """How it ended: the exit code, why, and the last snapshot; None where there was never a checkpoint."""

    code: Code
    why: str
    snapshot: Snapshot | None


class Listener(Protocol):
    """Where the course of a followed run is shown."""

    def show(self, run: str) -> AbstractContextManager[Progress]:
        """Show how far the measurement of a run is, as long as the context lasts."""

    def waits(self, reason: str) -> None:
        """There is nothing new; `reason` is the same as before in most calls."""

    def took(self, snapshot: Snapshot) -> None:
        """Something was measured and judged."""


def follow(run: FollowedRun, pace: Pace, output: Listener) -> End:
    """Measure and judge a run until it has ended, a binding expectation is violated for good, or the user interrupts.

    A run has ended when its last checkpoint is at the last step of the training, as far as that is known, or when
    there was no new checkpoint for `pace.idle`. What cannot be read is waited for as long as its files change: it may
    be a save, or a removal, that goes on; the same trouble with the same files twice is an error.

    Raises:
        UsageError: the run cannot be judged at all: several runs in one directory, no W0, one of another model.
        RunError: files cannot be read or trusted, and do not change.
    """
    course = _Course(run, pace, output)
    try:
        while (end := course.turn()) is None:
            time.sleep(pace.every)
        return end
    except KeyboardInterrupt as interrupt:
        return End(Code.INTERRUPTED, "; ".join(["interrupted", *getattr(interrupt, "__notes__", ())]), course.last)


class _Course:
    """What is remembered between two readings of the directory."""

    def __init__(self, run: FollowedRun, pace: Pace, output: Listener) -> None:
        self.last: Snapshot | None = None
        self._run = run
        self._pace = pace
        self._output = output
        self._latest_arrival = time.monotonic()
        self._measured: dict[str, object] = {}
        self._unsettled: dict[str, object] = {}
        self._trouble: tuple[str, object] | None = None

    def turn(self) -> End | None:
        """Read the directory once; how it ended, if it did."""
        idle = self._pace.idle is not None and time.monotonic() - self._latest_arrival >= self._pace.idle
        over = self._pace.once or idle
        try:
            reason = self._read(over=over)
        except NoCheckpoint as error:
            if self._pace.once:
                raise
            reason = str(error).partition(". Read are")[0]
        except (RunError, OSError) as error:
            if over:
                raise
            reason = self._after(error)
        end = self._end(over=over)
        if end is None:
            self._output.waits(reason)
        return end

    def _read(self, *, over: bool) -> str:
        """Measure and judge what is new; what is waited for then, in words."""
        found = self._run.open()
        complete = tuple(c for c in found.checkpoints if over or self._is_complete(found, c))
        run = replace(found, checkpoints=complete)
        files = {c.name: _files(c.source.path) for c in complete}
        if complete and not files.items() <= self._measured.items():
            at_the_end = run.planned is not None and complete[-1].step >= run.planned
            finished = at_the_end or (over and not self._pace.once)
            self.last = self._run.measure(run, self._output.show, finished=finished)
            if files.keys() - self._measured.keys():
                self._latest_arrival = time.monotonic()
            self._measured |= files
            self._trouble = None
            self._output.took(self.last)
        return _awaited(found, complete)

    def _after(self, error: Exception) -> str:
        """What is waited for after trouble; the same trouble with the same files is raised."""
        trouble = (str(error), _read_files(Path(self._run.path)))
        if trouble == self._trouble:
            raise error
        self._trouble = trouble
        return f"cannot be read now, which may pass: {error}"

    def _is_complete(self, run: Run, checkpoint: Checkpoint) -> bool:
        """Whether a checkpoint is vouched for, or its files stood still between two readings."""
        if run.framework == SINGLE:
            return False
        if checkpoint.vouched or checkpoint.name in self._measured:
            return True
        files = _files(checkpoint.source.path)
        before, self._unsettled[checkpoint.name] = self._unsettled.get(checkpoint.name), files
        return before == files

    def _end(self, *, over: bool) -> End | None:
        """How it has ended, if it has."""
        if self.last is None:
            return End(Code.NOTHING_CHECKED, "no checkpoint came", None) if over else None
        if over and not (self._pace.once or self.last.finished or self.last.violated):
            self.last = self._run.conclude()
            self._output.took(self.last)
        if self.last.violated:
            names = ", ".join(entry.due.expectation.id for entry in self.last.violated)
            why = f"violated{'' if self.last.finished else ', whatever still comes'}: {names}"
            return End(Code.VIOLATED, why, self.last)
        if not (self.last.finished or over):
            return None
        why = _why_no_more(self.last)
        if not self.last.checks_anything:
            return End(Code.NOTHING_CHECKED, f"{why}; no expectation was judged", self.last)
        return End(Code.HOLDS, why, self.last)


def _why_no_more(snapshot: Snapshot) -> str:
    """Why nothing more is measured."""
    step = snapshot.record.points[-1].step
    if not snapshot.finished:
        return "the run goes on"
    if snapshot.planned is not None and step >= snapshot.planned:
        return f"the run has ended at step {step}"
    return "no new checkpoint came, and the run counts as ended"


def _awaited(run: Run, complete: Sequence[Checkpoint]) -> str:
    """What is waited for, in words."""
    if run.framework == SINGLE:
        return "there is a model, and no checkpoint directory yet"
    pending = [c.name for c in run.checkpoints if c not in complete]
    pending += [entry.name for entry in run.left_out if entry.incomplete]
    if pending:
        return f"{', '.join(pending)} not complete yet"
    if run.planned is None:
        return "next checkpoint; how long the training is is not known: give --steps or --idle, or end with Ctrl-C"
    return f"next checkpoint, to step {run.planned}"


def _read_files(run: Path) -> object:
    """The state of the files that are read, of checkpoints and W0; logs beside them change all the time."""
    try:
        found = recognise(run)
    except (RunError, OSError):  # it is gone, or damaged where it says what it is
        found = []
    places = {place for steps in found for _, place in steps.directories}
    places |= {steps.place / name for steps in found for name in steps.layout.bases}
    return {place: _files(place) for place in places or {run}}


def _files(place: Path) -> tuple[tuple[str, int, int], ...]:
    """Names, sizes and times of all files below a directory: the same where nothing was written in between."""
    found = []
    for path in place.rglob("*"):
        with suppress(OSError):  # removed meanwhile
            stat = path.stat()
            found.append((str(path.relative_to(place)), stat.st_size, stat.st_mtime_ns))
    return tuple(sorted(found))
