"""What a run records beside its weights: its scores, and the constraint of its training.

Scores are the ``eval...`` entries of the Trainer's ``log_history``, and what a scores file in the run's directory
holds, which anything may write:

- ``scores.json``: ``{"0": {"accuracy": 0.11}, "150": {"accuracy": 0.62}}``, scores by step;
- ``scores.csv``: a line ``step,accuracy`` and below it one line per step.

Nothing here refuses a run: what cannot be read is a fault, reported when a score is needed.
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
from geomcheck.checkpoints.inside import distinct, read_json, require_regular
from geomcheck.errors import RunError

STATE = "trainer_state.json"
FILES = ("scores.json", "scores.csv")
MAX_STATE_BYTES = 64 * 2**20
MAX_FILE_BYTES = 16 * 2**20
PREFIX = "eval"
SPEED = ("_runtime", "_per_second", "_model_preparation_time")
"""Ends of the names of an evaluation's own speed, which differs each time."""

Entry = tuple[str, int, float, str]
"""A score: its name, its step, its value, and where it was found."""


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


def account_of(
    run: Path, checkpoints: Iterable[tuple[int, Path]], states: Mapping[str, Mapping[str, Any]] | None = None
) -> Account:
    """The account of the directory `run` and of its `checkpoints`, (step, directory) each; `states` are their
    ``trainer_state.json`` by the name of the directory, where they have been read."""
    root, faults = run.resolve(), list[str]()
    constraints: dict[int, Constraint | None] = {}
    scores: dict[str, dict[int, float]] = {}
    places = list(checkpoints)
    held = states or {}
    logs = [_logged(place, root, held.get(place.name)) for _, place in places]
    for step, place in places:
        try:
            constraints[step] = Constraint.read(place, root=root)
        except RunError as error:
            faults.append(str(error))
    for entries in (*logs, _logged(run, root), _filed(run, root)):
        try:
            for name, step, value, where in entries:
                known = scores.setdefault(name, {}).setdefault(step, value)
                if known != value and not (math.isnan(known) and math.isnan(value)):
                    faults.append(f"{where}: {name} at step {step} is {value:g}, and {known:g} elsewhere in the run")
        except RunError as error:
            faults.append(str(error))
    return Account(scores, constraints, tuple(dict.fromkeys(faults)))


def trainer_state(directory: Path, root: Path) -> Mapping[str, Any]:
    """``trainer_state.json`` in a directory; empty where there is none. Raises RunError."""
    path = directory / STATE
    return read_json(path, root, max_bytes=MAX_STATE_BYTES) if path.exists() else {}


def _logged(directory: Path, root: Path, state: Mapping[str, Any] | None = None) -> Iterator[Entry]:
    """The evaluations in the Trainer's state in `directory`, which is read unless it is given. Raises RunError."""
    history = (trainer_state(directory, root) if state is None else state).get("log_history")
    for entry in history if isinstance(history, list) else ():
        step = entry.get("step") if isinstance(entry, dict) else None
        if type(step) is int and step >= 0:
            for name, value in entry.items():
                if name.startswith(PREFIX) and not name.endswith(SPEED) and type(value) in (int, float):
                    yield name, step, _number(value), str(directory / STATE)


def _filed(run: Path, root: Path) -> Iterator[Entry]:
    """The scores in the run's own file. Raises RunError where there are two, or one of another form."""
    there = [run / name for name in FILES if (run / name).exists()]
    if len(there) > 1:
        raise RunError(f"{run}: {' and '.join(path.name for path in there)}; keep one")
    for path in there:
        text = require_regular(path, root, max_bytes=MAX_FILE_BYTES).read_bytes().decode("utf-8", errors="replace")
        try:
            yield from (_json if path.suffix == ".json" else _csv)(text, str(path))
        except (ValueError, TypeError, RecursionError, csv.Error) as error:
            form = '{"150": {"accuracy": 0.62}}' if path.suffix == ".json" else "a line step,accuracy and numbers below"
            raise RunError(f"{path}: no scores by step ({error}); expected {form}") from error


def _json(text: str, where: str) -> Iterator[Entry]:
    content = json.loads(text, object_pairs_hook=distinct)
    if not isinstance(content, dict):
        raise TypeError(f"a {type(content).__name__} at the top level")
    for step, scores in content.items():
        if not isinstance(scores, dict):
            raise TypeError(f"{step[:40]!a} has a {type(scores).__name__}")
        for name, value in scores.items():
            if type(value) not in (int, float):
                raise TypeError(f"{name[:40]!a} at {step[:40]!a} is no number")
            yield name, _step(step), _number(value), where


def _csv(text: str, where: str) -> Iterator[Entry]:
    rows = csv.DictReader(io.StringIO(text), strict=True)
    if "step" not in (rows.fieldnames or ()):
        raise ValueError("no column `step`")
    if len(set(rows.fieldnames or ())) < len(rows.fieldnames or ()):
        raise ValueError("a column is there twice")
    for row in rows:
        step = _step(row.pop("step"))
        for name, value in row.items():
            if value:
                yield str(name), step, _number(value), where


def _step(text: Any) -> int:
    if not isinstance(text, str) or not text.isascii() or not text.isdecimal() or len(text) > 15:
        raise ValueError(f"{str(text)[:40]!a} is no step")
    return int(text)


def _number(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:  # an integer beyond all floats
        return math.inf
