"""Following a run to its end: when to look, what to wait for, and when it is over."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from pathlib import Path
from typing import Protocol

from geomcheck.checkpoints import Checkpoint, Run
from geomcheck.checkpoints.discovery.steps import recognise
from geomcheck.errors import NoCheckpoint, RunError
from geomcheck.live.directory.look import Look, Show, Watcher

SINGLE = "a single model"


class Code(IntEnum):
    """How a watch ends; the numbers are pytest's."""

    HOLDS = 0
    VIOLATED = 1
    INTERRUPTED = 2
    NOTHING_CHECKED = 5


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How often to look, and when to stop.

    Attributes:
        every: seconds between two looks at the directory.
        idle: seconds without a new checkpoint after which the run counts as ended; None waits for its last step.
        once: look once.
    """

    every: float = 15.0
    idle: float | None = None
    once: bool = False


@dataclass(frozen=True)
class End:
    """How it ended: the exit code, why, and what was found last; None where there was never a checkpoint."""

    code: Code
    why: str
    look: Look | None


class Teller(Protocol):
    """Whoever is told how the watch goes."""

    show: Show

    def waits(self, reason: str) -> None:
        """There is nothing new; `reason` is the same as before in most calls."""
        ...

    def looked(self, look: Look) -> None:
        """Something was measured and judged."""
        ...


def follow(watcher: Watcher, pace: Pace, teller: Teller) -> End:
    """Look at the run until it has ended, an expectation that binds is violated for good, or the user interrupts.

    A run has ended when its last checkpoint is at the last step of the training, as far as that is known, or when
    there was no new checkpoint for `pace.idle`. What cannot be read is waited for as long as its files change: it may
    be a save, or a removal, that goes on; the same trouble with the same files twice is an error.

    Raises:
        UsageError: the run cannot be judged at all: several runs in one directory, no W0, one of another model.
        RunError: files cannot be read or trusted, and do not change.
    """
    watch = _Watch(watcher, pace, teller)
    try:
        return watch.to_the_end()
    except KeyboardInterrupt:
        return End(Code.INTERRUPTED, "interrupted", watch.last)


class _Watch:
    """One watch as it goes."""

    def __init__(self, watcher: Watcher, pace: Pace, teller: Teller) -> None:
        self.last: Look | None = None
        self._watcher = watcher
        self._pace = pace
        self._teller = teller
        self._news = time.monotonic()
        self._accepted: dict[str, object] = {}
        self._unsettled: dict[str, object] = {}
        self._trouble: tuple[str, object] | None = None

    def to_the_end(self) -> End:
        """Look and wait in turn."""
        while True:
            over = self._pace.once or self._idle()
            end = self._turn(over=over)
            if end is not None:
                return end
            time.sleep(self._pace.every)

    def _turn(self, *, over: bool) -> End | None:
        """One look, if there is something new or it is `over`; how it ended, if it did."""
        try:
            reason = self._look(over=over)
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
            self._teller.waits(reason)
        return end

    def _look(self, *, over: bool) -> str:
        """Look at what is new; what is waited for then, for people."""
        found = self._watcher.open()
        complete = tuple(c for c in found.checkpoints if over or self._is_complete(found, c))
        run = replace(found, checkpoints=complete)
        state = {c.name: _files(c.source.path) for c in complete}
        if complete and not state.items() <= self._accepted.items():
            ended = run.planned is not None and complete[-1].step >= run.planned
            finished = ended or (over and not self._pace.once)
            self._watcher.note(run)
            self.last = self._watcher.look(run, self._teller.show, finished=finished)
            if state.keys() - self._accepted.keys():
                self._news = time.monotonic()
            self._accepted |= state
            self._trouble = None
            self._teller.looked(self.last)
        return _next(found, complete)

    def _after(self, error: Exception) -> str:
        """What is waited for after trouble; the same trouble with the same files is not waited for."""
        trouble = (str(error), _read_files(Path(self._watcher.path)))
        if trouble == self._trouble:
            raise error
        self._trouble = trouble
        return f"cannot be read now, which may pass: {error}"

    def _is_complete(self, run: Run, checkpoint: Checkpoint) -> bool:
        """Whether a checkpoint is vouched for, or its files have stood still between two looks."""
        if run.framework == SINGLE:
            return False
        if checkpoint.vouched or checkpoint.name in self._accepted:
            return True
        files = _files(checkpoint.source.path)
        before, self._unsettled[checkpoint.name] = self._unsettled.get(checkpoint.name), files
        return before == files

    def _idle(self) -> bool:
        return self._pace.idle is not None and time.monotonic() - self._news >= self._pace.idle

    def _end(self, *, over: bool) -> End | None:
        """How the watch has ended, if it has."""
        look = self.last
        if look is not None and look.violated:
            names = ", ".join(entry.due.expectation.id for entry in look.violated)
            return End(Code.VIOLATED, f"violated{'' if look.finished else ', whatever still comes'}: {names}", look)
        if look is not None and look.finished:
            return _concluded(look, f"the run has ended at step {look.record.points[-1].step}")
        if not over:
            return None
        if look is None:
            return End(Code.NOTHING_CHECKED, "no checkpoint came", None)
        if self._pace.once:
            return _concluded(look, "the run goes on")
        self.last = look = self._watcher.conclude()
        self._teller.looked(look)
        if look.violated:
            return self._end(over=over)
        return _concluded(look, "no new checkpoint came, and the run counts as ended")


def _concluded(look: Look, why: str) -> End:
    if not look.judged:
        return End(Code.NOTHING_CHECKED, f"{why}; no expectation was judged", look)
    return End(Code.HOLDS, why, look)


def _next(run: Run, complete: Sequence[Checkpoint]) -> str:
    """What is waited for, in words."""
    pending = [c.name for c in run.checkpoints if c not in complete]
    saving = [entry.name for entry in run.left_out if entry.incomplete]
    if run.framework == SINGLE:
        return "there is a model, and no checkpoint directory yet"
    if pending or saving:
        return f"{', '.join([*pending, *saving])} not complete yet"
    if run.planned is None:
        return "next checkpoint; how long the training is is not known: give --steps or --idle, or end with Ctrl-C"
    return f"next checkpoint, to step {run.planned}"


def _read_files(run: Path) -> object:
    """The files that a look reads, of checkpoints and W0; logs beside them change as long as the training goes on."""
    try:
        found = recognise(run)
    except (RunError, OSError):  # it is gone, or damaged where it says what it is
        found = []
    places = {place for steps in found for _, place in steps.directories}
    places |= {steps.place / name for steps in found for name in steps.layout.bases}
    return {place: _files(place) for place in places or {run}}


def _files(place: Path) -> tuple[tuple[str, int, int], ...]:
    """Names, sizes and times of all files below a directory: the same where nothing was written in between."""
    return tuple(sorted(_stats(place)))


def _stats(place: Path) -> Iterator[tuple[str, int, int]]:
    for path in place.rglob("*"):
        try:
            stat = path.stat()
        except OSError:  # removed while we look
            continue
        yield str(path.relative_to(place)), stat.st_size, stat.st_mtime_ns
