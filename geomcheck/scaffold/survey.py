"""Which runs lie in a directory, or a little below it; looks at names and headers alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from geomcheck.checkpoints import BaseWeights, Run, find_base, open_run
from geomcheck.checkpoints.formats import adapter
from geomcheck.errors import GeomcheckError, NoCheckpoint, RunError, UsageError
from geomcheck.inspection import Inspection, inspect
from geomcheck.measurement.content import digest
from geomcheck.record.parquet import SUFFIX
from geomcheck.record.points import matches

DEPTH = 3
"""Levels of directories that are looked at: ``outputs/2026-11-30/12-00-00``."""

MOST_DIRECTORIES = 1000
MOST_RUNS = 100

PASSED = frozenset({"node_modules", "site-packages", "__pycache__", "venv", "env", "build", "dist", "docs", "tests"})
"""Directories that hold no runs, and much else."""

MODEL = "a single model"
"""What `Run.framework` says of a model without checkpoints."""


@dataclass(frozen=True)
class Found:
    """A run that was found.

    Attributes:
        path: as a user would type it.
        parts: names of the directories from the one that was asked for to this.
        run: opened.
        seen: what its headers tell.
        given: its W0, where the user names it.
    """

    path: Path
    parts: tuple[str, ...]
    run: Run
    seen: Inspection
    given: BaseWeights | None = None

    @property
    def name(self) -> str:
        """The name of its directory, or of the link to it."""
        return self.parts[-1]

    @property
    def is_adapter(self) -> bool:
        """Whether it holds adapters, and no whole weights."""
        return self.run.layout == adapter.LAYOUT

    @property
    def steps(self) -> tuple[int, ...]:
        """The steps of its checkpoints."""
        return tuple(checkpoint.step for checkpoint in self.run.checkpoints)

    @property
    def unfinished(self) -> str:
        """Why it looks as if it had not come to its end; empty where it does not."""
        last = self.run.checkpoints[-1]
        if not matches(last, 1.0):
            return f"it ends at step {last.step}, {last.progress:.0%} of the training that was planned"
        later = [entry for entry in self.run.left_out if entry.incomplete and entry.step > last.step]
        return f"its last checkpoint, {later[-1].name}, is not complete: {later[-1].reason}" if later else ""

    @property
    def bytes_read(self) -> int:
        """What measuring it would read, at most."""
        held = [*self.seen.checkpoints, *([self.seen.base] if self.seen.base else [])]
        return self.seen.cost.bytes_read if self.seen.cost else sum(entry.bytes for entry in held)

    @property
    def core_hours(self) -> float:
        """What measuring it would take."""
        return self.seen.cost.core_hours if self.seen.cost else 0.0

    @cached_property
    def start(self) -> str:
        """A digest of the smallest matrix of W0: runs with different ones did not start alike. Empty where it cannot be
        read."""
        try:
            weights = find_base(self.run, given=self.given).source
            *_, name = min((s.shape, name) for name, s in weights.weights.items() if len(s.shape) == 2)
            return digest(weights.read(name))
        except (GeomcheckError, ValueError, OSError):
            return ""


@dataclass(frozen=True)
class Survey:
    """What lies in a directory.

    Attributes:
        single: whether the directory is itself a run.
        runs: in the order of their paths.
        models: directories with a model and without checkpoints; one may be W0.
        records: record files, or other Parquet files, directly in it.
        troubles: (path, why) of what looks like a run and cannot be opened.
        cut: whether there was more than is looked at.
    """

    directory: Path
    single: bool
    runs: tuple[Found, ...]
    models: tuple[Path, ...] = ()
    records: tuple[Path, ...] = ()
    troubles: tuple[tuple[Path, str], ...] = ()
    cut: bool = False


def survey(directory: Path, *, base: BaseWeights | None = None) -> Survey:
    """Look at `directory`: it is a run, or holds runs, at most `DEPTH` levels below.

    Args:
        base: W0 of all runs, where it is given.

    Raises:
        UsageError: there is no such directory.
    """
    if not directory.is_dir():
        what = "is a file" if directory.exists() else "does not exist"
        raise UsageError(f"{directory} {what}; give the directory of your runs")
    walk = _Walk(directory, base)
    single = walk.look(directory, ())
    if not single:
        walk.below(directory, ())
    records = tuple(sorted(p for p in directory.iterdir() if p.suffix == SUFFIX and p.is_file()))
    found = tuple(sorted(walk.runs, key=lambda run: run.parts))
    return Survey(directory, single, found, tuple(walk.models), records, tuple(walk.troubles), walk.cut)


class _Walk:
    def __init__(self, root: Path, base: BaseWeights | None) -> None:
        self._base = base
        self._left = MOST_DIRECTORIES
        self._root = root
        self.runs: list[Found] = []
        self.models: list[Path] = []
        self.troubles: list[tuple[Path, str]] = []
        self.cut = False

    def below(self, directory: Path, parts: tuple[str, ...]) -> None:
        """Look at the directories in `directory`, and below those that are no runs."""
        for entry in _directories(directory):
            if self._left <= 0 or len(self.runs) >= MOST_RUNS:
                self.cut = True
                return
            self._left -= 1
            path = directory / entry
            if not self.look(path, (*parts, entry)) and len(parts) + 1 < DEPTH:
                self.below(path, (*parts, entry))

    def look(self, path: Path, parts: tuple[str, ...]) -> bool:
        """Whether `path` is a run, or a model; remembers what it is."""
        try:
            run = open_run(path)
        except NoCheckpoint as error:
            if "complete" in str(error).split("\n")[0]:
                self.troubles.append((path, str(error)))
            return False
        except UsageError as error:
            several = "holds more than one run" in str(error)
            self.troubles += [] if several else [(path, str(error))]
            return not several
        except (RunError, OSError) as error:
            self.troubles.append((path, str(error)))
            return True
        if run.framework == MODEL and parts:
            self.models.append(path)
            return True
        try:
            seen = inspect(path, base=self._base)
        except GeomcheckError as error:
            self.troubles.append((path, str(error)))
            return True
        self.runs.append(Found(path, parts or (path.resolve().name,), run, seen, self._base))
        return True


def _directories(directory: Path) -> Iterator[str]:
    """The directories in one that may be, or hold, runs."""
    try:
        with os.scandir(directory) as entries:
            names = sorted(entry.name for entry in entries if entry.is_dir())
    except OSError:  # not ours to look into
        return
    for name in names:
        if not name.startswith((".", "_")) and name not in PASSED:
            yield name
