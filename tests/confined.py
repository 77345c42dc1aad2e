"""Runs of projected training, their free counterparts and random controls, in the files that training leaves."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from geomcheck.checkpoints.constraint import Constraint
from tests.runs import base_weights, moved, write_model

STEPS = (10, 20, 30)
LEARNED = Constraint("learned", 4, 10, "gradient", "free", None, "the run itself at step 10", 3)
RANDOM = replace(LEARNED, channel="random", seed=0, source="chance")

FREE = {0: 0.1, 10: 0.3, 20: 0.5, 30: 0.6}
KEPT = {0: 0.1, 10: 0.3, 20: 0.48, 30: 0.55}
"""0.95 of the free gain at step 20, 0.9 at step 30."""

CHANCE = {0: 0.1, 10: 0.3, 20: 0.3, 30: 0.35}
"""0.5 of the free gain at steps 20 and 30."""


@dataclass(frozen=True, kw_only=True)
class Confined:
    """A run to write: its scores by step, its constraint from the checkpoint after `start_step` on."""

    scores: Mapping[int, float]
    constraint: Constraint | None = None
    score: str = "eval_accuracy"
    steps: tuple[int, ...] = STEPS
    unsaid: tuple[int, ...] = field(default=())
    """Checkpoints that do not say that they were constrained."""

    def write(self, run: Path) -> Path:
        """Write it without weights, as a slim control run."""
        for step in self.steps:
            place = run / f"checkpoint-{step}"
            place.mkdir(parents=True, exist_ok=True)
            log = [{"step": at, "loss": 1.0, self.score: value} for at, value in self.scores.items() if at <= step]
            state = {"global_step": step, "max_steps": self.steps[-1], "log_history": log}
            (place / "trainer_state.json").write_text(json.dumps(state))
            if self.constraint is not None and step > self.constraint.start_step and step not in self.unsaid:
                self.constraint.write(place)
        return run

    def write_whole(self, run: Path) -> Path:
        """Write it with weights, and W0 beside them."""
        base = base_weights()
        write_model(run / "base", base)
        for step in self.steps:
            write_model(run / f"checkpoint-{step}", moved(base, 1e-3 * step, seed=step))
        return self.write(run)


def family(
    root: Path,
    *,
    own: Confined | None = None,
    free: Confined | None = None,
    randoms: tuple[Confined, ...] = (Confined(scores=CHANCE, constraint=RANDOM),),
) -> Path:
    """``run`` with weights, and ``free``, ``random-0`` and so on without; returns the run."""
    (free or Confined(scores=FREE)).write(root / "free")
    for index, control in enumerate(randoms):
        control.write(root / f"random-{index}")
    return (own or Confined(scores=KEPT, constraint=LEARNED)).write_whole(root / "run")
