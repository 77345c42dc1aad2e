"""What a diagnosis can say: the kinds of findings, each declared like a metric."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

from geomcheck.diagnosis.case import Case
from geomcheck.diagnosis.finding import Cell, Finding, Grade, Group

Source = Literal["record", "weights", "good", "log"]
"""What a kind of finding looks at."""


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
