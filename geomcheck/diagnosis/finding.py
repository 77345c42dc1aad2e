"""What a diagnosis says, and what can be said: findings, and the kinds of them, each declared like a metric."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from geomcheck.diagnosis.case import Case

Group = Literal["A", "B", "C", "D"]
"""The order of questions: facts of the bytes, the order of checkpoints, good runs, the trainer's log."""

Grade = Literal["fact", "inference"]
"""Whether it follows from the bytes, or is the likeliest explanation."""

Source = Literal["record", "weights", "good", "log"]
"""What a kind of finding looks at."""

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


@dataclass(frozen=True)
class Kind:
    """A kind of finding.

    Attributes:
        name: lower-case words with hyphens between.
        title: what it is, in a few words.
        about: what it means, in a sentence or two.
        looks_at: what it needs; without it nothing is found.
        causes: what usually is behind it, the likeliest first, three at most.
        next_step: what to do.
        source: a public thread or paper where the same is told.
        find: the findings of one case, in the order of how much they explain. They leave out what the case says is
            explained already.
    """

    name: str
    group: Group
    grade: Grade
    title: str
    about: str
    find: Callable[[Case], Iterable[Finding]] = field(repr=False)
    looks_at: tuple[Source, ...] = ("record",)
    causes: tuple[str, ...] = ()
    next_step: str = ""
    source: str = ""

    def finding(
        self,
        case: Case,
        cells: Iterable[Cell],
        sentence: str,
        *,
        evidence: Iterable[str] = (),
        causes: tuple[str, ...] | None = None,
    ) -> Finding:
        """A finding of this kind about these weights at these checkpoints; `causes` where they are not the usual."""
        held = set(cells)
        return Finding(
            kind=self.name,
            group=self.group,
            grade=self.grade,
            sentence=sentence,
            evidence=tuple(evidence),
            causes=self.causes if causes is None else causes,
            next_step=self.next_step,
            source=self.source,
            weights=frozenset(name for name, _ in held),
            steps=tuple(sorted({case.record.points[index].step for _, index in held})),
        )
