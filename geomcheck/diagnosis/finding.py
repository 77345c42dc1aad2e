"""What a diagnosis says: findings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Group = Literal["A", "B", "C", "D"]
"""The order of questions: facts of the bytes, the order of checkpoints, good runs, the trainer's log."""

Grade = Literal["fact", "inference"]
"""Whether it follows from the bytes, or is the likeliest explanation."""

Cell = tuple[str, int]
"""A weight at a checkpoint: its name, and the index of the checkpoint."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a run, or that its reader should know.

    Attributes:
        kind: name of the kind.
        group, grade: of the kind.
        sentence: what is wrong, in one sentence: which weights, at which checkpoints, the figure that decides.
        evidence: the figures, each a short phrase.
        causes: the likely ones, the likeliest first.
        next_step: what to do.
        source: a public thread or paper where the same is told; empty where there is none.
        weights: names of those that it is about.
        steps: of the checkpoints that it is about.
    """

    kind: str
    group: Group
    grade: Grade
    sentence: str
    evidence: tuple[str, ...] = ()
    causes: tuple[str, ...] = ()
    next_step: str = ""
    source: str = ""
    weights: frozenset[str] = field(default_factory=frozenset, repr=False)
    steps: tuple[int, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """In plain builtins."""
        return {
            "kind": self.kind,
            "group": self.group,
            "grade": self.grade,
            "sentence": self.sentence,
            "evidence": list(self.evidence),
            "causes": list(self.causes),
            "next_step": self.next_step,
            "source": self.source,
            "weights": sorted(self.weights),
            "steps": list(self.steps),
        }
