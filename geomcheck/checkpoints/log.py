"""The trainer's own log beside the checkpoints: what it wrote of its steps into ``trainer_state.json``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from geomcheck.checkpoints.inside import distinct, read_json
from geomcheck.checkpoints.run import Run
from geomcheck.checkpoints.scores import MAX_STATE_BYTES, STATE, number
from geomcheck.errors import RunError

NAMES: Mapping[str, tuple[str, ...]] = {
    "learning rate": ("learning_rate", "lr"),
    "loss": ("loss",),
    "gradient norm": ("grad_norm",),
    "tokens": ("num_tokens", "num_input_tokens_seen"),
    "completion length": ("completions/mean_length", "completion_length"),
    "entropy": ("entropy",),
    "clipped share": ("completions/clipped_ratio", "clip_ratio"),
}
"""Quantities, and what trainers call them; the first that is there counts."""

MOST = 100_000
"""Entries of a log that are used."""

_USED = {"log_history", "step", *(key for keys in NAMES.values() for key in keys)}


@dataclass(frozen=True)
class Log:
    """What a trainer logged.

    Attributes:
        by_name: by quantity, one of `NAMES`, then by step, ascending; not always finite.
    """

    by_name: Mapping[str, Mapping[int, float]] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Mapping[int, float]:
        """A quantity by step; empty where it was not logged."""
        return self.by_name.get(name, {})


def read_log(run: Run) -> Log:
    """The log of the last checkpoint that has one, else that of the run's directory; empty where there is none, or
    none that can be read."""
    root = run.path.resolve()
    for place in [*(run.path / checkpoint.name for checkpoint in reversed(run.checkpoints)), run.path]:
        try:
            if (place / STATE).is_file() and (log := _read(place / STATE, root)).by_name:
                return log
        except (RunError, OSError):
            continue
    return Log()


def _read(path: Path, root: Path) -> Log:
    content = read_json(path, root, max_bytes=MAX_STATE_BYTES, of=_used)
    history = content.get("log_history")
    found: dict[str, dict[int, float]] = {}
    for entry in history[:MOST] if isinstance(history, list) else ():
        step = entry.get("step") if isinstance(entry, dict) else None
        if type(step) is not int or step < 0:
            continue
        for name, keys in NAMES.items():
            value = next((entry[key] for key in keys if type(entry.get(key)) in (int, float)), None)
            if value is not None:
                found.setdefault(name, {})[step] = number(value)
    return Log({name: dict(sorted(by_step.items())) for name, by_step in found.items()})


def _used(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """What is used of a mapping. Raises ValueError as `distinct`."""
    return {key: value for key, value in distinct(pairs).items() if key in _USED}
