"""What is checked: runs, on disk or at a URL, and record files, each under a name that is its own."""

from __future__ import annotations

import os
from collections.abc import Container, Iterable
from dataclasses import dataclass, replace
from itertools import accumulate, chain, count
from pathlib import Path

from geomcheck.checkpoints import Incomplete, Run, open_run
from geomcheck.errors import RecordError, UsageError
from geomcheck.record import Record, read_record
from geomcheck.record.parquet import SUFFIX


@dataclass(frozen=True)
class GivenRun:
    """A run or a record, with the path or URL as it was given and a name that is unique in the session."""

    name: str
    path: str
    run: Run | None = None
    record: Record | None = None

    @property
    def own_name(self) -> str:
        """What the run calls itself, which others of the session may do, too."""
        return self.run.name if self.run else self.record.run if self.record else self.name

    @property
    def place(self) -> Path:
        """Where it lies on this machine, or what stands for it here."""
        return self.run.path if self.run else Path(self.path)

    @property
    def names(self) -> tuple[str, ...]:
        """What `applies_to` may match: the name of its directory, and that of the link by which it was given."""
        if self.run is None:
            return (self.own_name,)
        return tuple({self.own_name, Path(os.path.abspath(self.path)).name})


def open_subjects(paths: Iterable[str], *, incomplete: Incomplete = "skip") -> list[GivenRun]:
    """Open run directories and record files; two that share a name are told apart by their parents.

    Raises:
        UsageError: no such run, or no checkpoints in it.
        RunError: a run cannot be trusted.
    """
    subjects: dict[str, GivenRun] = {}
    for path in {path.rstrip("/"): path for path in paths}.values():
        subject = open_subject(path, incomplete=incomplete)
        name = _free_name(subject.name, path, subjects)
        subjects[name] = replace(subject, name=name)
    return list(subjects.values())


def _free_name(name: str, path: str, taken: Container[str]) -> str:
    """`name`, told apart from those `taken` by the directories above, or by a number."""
    parents = [parent.name for parent in Path(path).resolve().parents if parent.name]
    longer = accumulate([name, *parents], lambda known, parent: f"{parent}-{known}")
    numbered = (f"{name}-{number}" for number in count(2))
    return next(candidate for candidate in chain(longer, numbered) if candidate not in taken)


def open_subject(path: str, *, incomplete: Incomplete = "skip") -> GivenRun:
    """Open a run directory, or a record file. Raises as `open_subjects`."""
    if Path(path).is_file():
        try:
            record = read_record(path)
        except RecordError as error:
            if Path(path).suffix != SUFFIX:
                raise UsageError(f"{path}: a file, but not a readable record; give the directory of the run") from error
            raise UsageError(str(error)) from error
        return GivenRun(record.run, path, record=record)
    run = open_run(path, incomplete=incomplete)
    return GivenRun(run.name, path, run=run)
