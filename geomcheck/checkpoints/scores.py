"""What a run records beside its weights: its scores, and the constraint of its training.

Scores are the ``eval...`` entries of the Trainer's ``log_history``, and what a scores file in the run's directory
holds, which anything may write:

- ``scores.json``: ``{"0": {"accuracy": 0.11}, "150": {"accuracy": 0.62}}``, scores by step;
- ``scores.csv``: a line ``step,accuracy`` and below it one line per step.

Nothing here refuses a run but a Trainer's state that cannot be read: anything else is a fault, reported when a score is
needed. Of a state, which logs every step, only what is used stays in memory.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from geomcheck.checkpoints.constraint import Constraint
from geomcheck.checkpoints.inside import distinct, loaded, read_json, require_regular
from geomcheck.errors import RunError

STATE = "trainer_state.json"
FILES = ("scores.json", "scores.csv")
MAX_STATE_BYTES = 64 * 2**20
MAX_SCORES = 1_000_000
MAX_FILE_BYTES = 16 * 2**20
PREFIX = "eval"
SPEED = ("_runtime", "_per_second", "_model_preparation_time")
"""Ends of the names of an evaluation's own speed, which differs each time."""

MAX_SHOWN = 40
_KEYS = {"global_step", "max_steps", "log_history", "step"}

Entry = tuple[str, int, float, str]
"""A score: its name, its step, its value, and where it was found."""


@dataclass(frozen=True)
class TrainerState:
    """What ``trainer_state.json`` says of the training.

    Attributes:
        step: ``global_step``, the steps that were done; None where that is not said, or not a whole number.
        planned: ``max_steps``, of the whole training; likewise.
        odd: what is said and is no whole number, by its key, as JSON.
    """

    step: int | None = None
    planned: int | None = None
    odd: Mapping[str, str] = field(default_factory=dict)


class Scores:
    """The scores of a run, as they are found in one file after the other.

    Attributes:
        by_name: by name, then by step.
        faults: what could not be read, or contradicts what was found before.
    """

    def __init__(self) -> None:
        self.by_name: dict[str, dict[int, float]] = {}
        self.faults: list[str] = []
        self._count = 0

    def add(self, entries: Iterable[Entry]) -> None:
        """Take the scores of one file."""
        try:
            for name, step, value, where in entries:
                by_step = self.by_name.setdefault(name, {})
                if step not in by_step and self._count >= MAX_SCORES:
                    raise RunError(f"{where}: more than {MAX_SCORES} scores in all; the others are left out")
                self._count += step not in by_step
                known = by_step.setdefault(step, value)
                if known != value and not (math.isnan(known) and math.isnan(value)):
                    self.faults.append(
                        f"{where}: {name} at step {step} is {value:g}, and {known:g} elsewhere in the run"
                    )
        except RunError as error:
            self.faults.append(str(error))


@dataclass(frozen=True)
class Account:
    """What a run records of itself.

    Attributes:
        scores: by name, then by step; not always finite.
        constraints: by the step of each checkpoint; None of one whose training was free.
        faults: what could not be read, or contradicts itself.
    """

    scores: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    constraints: Mapping[int, Constraint | None] = field(default_factory=dict)
    faults: tuple[str, ...] = ()


def account_of(run: Path, checkpoints: Iterable[tuple[int, Path]], logged: Scores | None = None) -> Account:
    """The account of the directory `run` and of its `checkpoints`, (step, directory) each; `logged` are the scores in
    their ``trainer_state.json``, where these have been read."""
    root, faults = run.resolve(), list[str]()
    constraints: dict[int, Constraint | None] = {}
    places = list(checkpoints)
    scores = logged or Scores()
    for place in [*(place for _, place in places if logged is None), run]:
        try:
            trainer_state(place, root, scores)
        except RunError as error:
            scores.faults.append(str(error))
    scores.add(_filed(run, root))
    for step, place in places:
        try:
            constraints[step] = Constraint.read(place, root=root)
        except RunError as error:
            faults.append(str(error))
    return Account(scores.by_name, constraints, tuple(dict.fromkeys(faults + scores.faults)))


def trainer_state(directory: Path, root: Path, scores: Scores) -> TrainerState:
    """What ``trainer_state.json`` in a directory says, whose evaluations go to `scores`; nothing where there is none.
    Raises RunError."""
    path = directory / STATE
    if not path.exists():
        return TrainerState()
    content = read_json(path, root, max_bytes=MAX_STATE_BYTES, of=_used)
    scores.add(_logged(content.get("log_history"), str(path)))
    counts: dict[str, Any] = {key: content[key] for key in ("global_step", "max_steps") if key in content}
    odd = {key: json.dumps(value)[:MAX_SHOWN] for key, value in counts.items() if type(value) is not int}
    step, planned = (None if key in odd else counts.get(key) for key in ("global_step", "max_steps"))
    return TrainerState(step, planned, odd)


def _used(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """What is used of a mapping in a Trainer's state. Raises ValueError as `distinct`."""
    return {key: value for key, value in distinct(pairs).items() if key in _KEYS or _is_score(key, value)}


def _is_score(name: str, value: Any) -> bool:
    return name.startswith(PREFIX) and not name.endswith(SPEED) and type(value) in (int, float)


def _logged(history: Any, where: str) -> Iterator[Entry]:
    """The evaluations in the log of a Trainer's state. Raises RunError where one is of no step."""
    for entry in history if isinstance(history, list) else ():
        scores = [name for name in entry if name not in _KEYS] if isinstance(entry, dict) else []
        if not scores:
            continue
        step = entry.get("step")
        if type(step) is not int or step < 0:
            raise RunError(
                f"{where}: {scores[0][:MAX_SHOWN]!a} is logged at step {json.dumps(step)[:MAX_SHOWN]}, which is none"
            )
        for name in scores:
            yield name, step, number(entry[name]), where


def _filed(run: Path, root: Path) -> Iterator[Entry]:
    """The scores in the run's own file. Raises RunError where there are two, or one of another form."""
    there = [run / name for name in FILES if (run / name).exists()]
    if len(there) > 1:
        raise RunError(f"{run}: {' and '.join(path.name for path in there)}; keep one")
    for path in there:
        text = require_regular(path, root, max_bytes=MAX_FILE_BYTES).read_bytes()
        try:
            yield from (_json if path.suffix == ".json" else _csv)(text, str(path))
        except (ValueError, TypeError, RecursionError, csv.Error) as error:
            form = '{"150": {"accuracy": 0.62}}' if path.suffix == ".json" else "a line step,accuracy and numbers below"
            raise RunError(f"{path}: no scores by step ({error}); expected {form}") from error


def _json(text: bytes, where: str) -> Iterator[Entry]:
    content = loaded(text)
    if not isinstance(content, dict):
        raise TypeError(f"a {type(content).__name__} at the top level")
    for step, scores in content.items():
        if not isinstance(scores, dict):
            raise TypeError(f"{step[:40]!a} has a {type(scores).__name__}")
        for name, value in scores.items():
            if type(value) not in (int, float):
                raise TypeError(f"{name[:40]!a} at {step[:40]!a} is no number")
            yield name, _step(step), number(value), where


def _csv(text: bytes, where: str) -> Iterator[Entry]:
    rows = csv.DictReader(io.StringIO(text.decode("utf-8", errors="replace")), strict=True)
    if "step" not in (rows.fieldnames or ()):
        raise ValueError("no column `step`")
    if len(set(rows.fieldnames or ())) < len(rows.fieldnames or ()):
        raise ValueError("a column is there twice")
    for row in rows:
        step = _step(row.pop("step"))
        for name, value in row.items():
            if value:
                yield str(name), step, number(value), where


def _step(text: Any) -> int:
    if not isinstance(text, str) or not text.isascii() or not text.isdecimal() or len(text) > 15:
        raise ValueError(f"{str(text)[:40]!a} is no step")
    return int(text)


def number(value: Any) -> float:
    """A number of a JSON or CSV file as a float; one beyond all floats is infinite."""
    try:
        return float(value)
    except OverflowError:  # an integer beyond all floats
        return math.inf
