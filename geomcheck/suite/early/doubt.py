"""Whether an expectation is decided by the weights that were measured so far."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from geomcheck._text import plural
from geomcheck.diagnostics import Fold
from geomcheck.record import Record
from geomcheck.record.column import Column, Figure
from geomcheck.suite.early.claims import Claim, Population
from geomcheck.suite.early.decision import Decision, judge_as
from geomcheck.suite.early.frame import Cell, Frame
from geomcheck.suite.early.tally import Tally
from geomcheck.suite.judge import VIOLATED
from geomcheck.suite.verdict import Decided, Verdict

Figures = Mapping[int, float | str]
"""Of one weight, by step; a reason where there is none."""


class Doubt:
    """An expectation that is open, and what speaks against leaving it so.

    It is decided where that is certain, or where it is wrong with a chance of at most `alpha`, however often one looks.
    The places at which it can go wrong share that chance. A pass is wrong only if a group that is outside was taken to
    be in its band, at the one edge that it is beyond: with `allow` as many share as may be outside, and one more. A
    violation is wrong if any figure was taken to be beyond any edge: all edges share.

    Args:
        record: with the metrics of entries; and the `reference`'s record where the condition compares.

    Attributes:
        holds: what was decided; None where nothing is.
    """

    def __init__(self, frame: Frame, record: Record, reference: Record | None, alpha: float) -> None:
        self.frame = frame
        self._record, self._reference = record, reference
        self._seen: dict[str, Figures] = {}
        self._undefined = False
        self.holds: bool | None = None
        self._alpha = alpha
        groups = dict.fromkeys(cell.group for cell in frame.cells)
        self._allowed = min(len(groups) - 1, math.floor(frame.expectation.allow * len(groups) + 1e-9))
        self._tally = _Weights(frame.cells, self._allowed) if frame.expectation.per == "weight" else None
        self._groups: dict[str | None, list[_Place]] = {}
        for cell in frame.cells if self._tally is None else ():
            self._groups.setdefault(cell.group, []).append(_Place(cell, frame.expectation.fold))
        self._members = {name: cell.group for cell in frame.cells for name in cell.names}
        edges = sum(place.edges for places in self._groups.values() for place in places)
        self._levels = alpha / (self._allowed + 1), alpha / max(1, edges)
        self._held = {group: self._judged_group(group) for group in self._groups}

    def see(self, name: str, figures: Figures) -> None:
        """Note the figures of the next weight, in a uniformly random order of all that are folded."""
        self._seen[name] = figures
        figures = {step: figures[step] for step, names in self.frame.folded.items() if name in names}
        self._undefined |= any(isinstance(figure, str) for figure in figures.values())
        if self._undefined:
            return
        if self._tally is not None:
            self._tally.see(name, {step: float(figure) for step, figure in figures.items()})
        group = self._members.get(name)
        for place in self._groups.get(group, ()):
            if place.cell.step in figures:
                place.see(name, float(figures[place.cell.step]))
        if group in self._groups:
            self._held[group] = self._judged_group(group)

    @property
    def seen(self) -> int:
        """How many weights were seen."""
        return len(self._seen)

    @property
    def awaits_limits(self) -> bool:
        """Whether it may be decided by what limits the figures that were not seen, as far as those that were tell."""
        if self._tally is not None:
            return self._tally.awaits_limits
        of_open = (places for group, places in self._groups.items() if self._held[group][1] is None)
        return any(place.awaits_limits(*self._levels) for places in of_open for place in places)

    def limit(self, limits: Mapping[tuple[int, str], float]) -> None:
        """Learn what figures do not exceed, by step and weight; at any time."""
        if self._tally is not None:
            self._tally.limit(limits)
        for group, places in self._groups.items():
            for place in places:
                place.limit(limits)
            self._held[group] = self._judged_group(group)

    def decision(self, confidence: float) -> Decision | None:
        """What it is decided by, if it is. The figures of the weights that were seen say the same as the evidence does:
        a verdict shows them."""
        if self._undefined:
            return self._decided(certain=True, confidence=confidence)
        holds, certain = self._judged()
        if holds is None:
            return None
        decision = self._decided(certain=certain, confidence=confidence)
        shown = self._verdict(decision)
        if not shown.observed or (shown.outcome not in VIOLATED.values()) != holds:
            return None
        self.holds = holds
        return decision

    def _judged(self) -> tuple[bool | None, bool]:
        """Whether it holds, None where that is open; and whether that is certain."""
        if self._tally is not None:
            return self._tally.count.judged(self._alpha)
        for certain, held in zip((True, False), zip(*self._held.values(), strict=True), strict=True):
            if held.count(False) > self._allowed:
                return False, certain
            if len(held) - held.count(True) <= self._allowed:
                return True, certain
        return None, False

    def _judged_group(self, group: str | None) -> tuple[bool | None, bool | None]:
        """Whether a group is in its band at every step, None where that is open: for certain, and by the evidence."""

        def judged(levels: tuple[float, float]) -> bool | None:
            found = [place.judged(*levels) for place in self._groups[group]]
            return False if False in found else True if all(found) else None

        return judged((0.0, 0.0)), judged(self._levels)

    def _decided(self, *, certain: bool, confidence: float) -> Decision:
        confidence = 1.0 if certain else confidence
        decided = Decided(len(self._seen), len(self.frame.names), confidence, self._groups_seen())
        return Decision(frozenset(self._seen) | self.frame.still, decided)

    def _groups_seen(self) -> str:
        """Of how many groups a verdict shows figures, in words, where that is not all: what limits them is enough."""
        seen, total = len({self._members[name] for name in self._seen if name in self._members}), len(self._groups)
        return f"{seen:,} of {plural(total, self.frame.expectation.per)}" if seen < total else ""

    def _verdict(self, decision: Decision) -> Verdict:
        """The verdict by the figures that were seen."""
        question = self.frame.question
        key = question.request, question.metric.stat(question.params)
        column = Column.of(
            {
                (step, name): Figure(undefined=figure) if isinstance(figure, str) else Figure(figure)
                for name, figures in self._seen.items()
                for step, figure in figures.items()
            }
        )
        versions = {**self._record.versions, question.metric.name: question.metric.version}
        record = replace(self._record, columns={**self._record.columns, key: column}, versions=versions)
        return judge_as(decision, self.frame.expectation, record, self._reference)


def _limited(cell: Cell, limits: Mapping[tuple[int, str], float]) -> Population:
    return cell.population.limited(np.array([limits.get((cell.step, name), math.nan) for name in cell.names]))


class _Weights:
    """Cells of one weight each, and the count of weights that are outside at any of theirs."""

    def __init__(self, cells: Sequence[Cell], allowed: int) -> None:
        self._cells: dict[str | None, dict[int, Cell]] = {}
        for cell in cells:
            self._cells.setdefault(cell.group, {})[cell.step] = cell
        self._members = {group: member for member, group in enumerate(self._cells)}
        self.count = Tally(len(self._cells), allowed)
        self.limit({})

    def see(self, name: str, figures: Mapping[int, float]) -> None:
        """Note the figures of a weight, by step."""
        own = self._cells.get(name, {})
        judged = [own[step].band.holds(figure) for step, figure in figures.items() if step in own]
        if judged:
            self.count.see(self._members[name], outside=not all(judged))

    @property
    def awaits_limits(self) -> bool:
        """Whether limits may tell weights that cannot be outside, and few of those that were seen are."""
        cells = (cell for own in self._cells.values() for cell in own.values())
        return self.count.likely and any(cell.band.holds(float(cell.population.low[0])) for cell in cells)

    def limit(self, limits: Mapping[tuple[int, str], float]) -> None:
        """Learn what figures do not exceed, by step and weight."""

        def is_inside(cell: Cell) -> bool:
            population = _limited(cell, limits)
            return all(cell.band.holds(float(end[0])) for end in (population.low, population.high))

        self.count.limit(np.array([all(map(is_inside, own.values())) for own in self._cells.values()]))


class _Place:
    """A cell with what is claimed of its folded figure: on which side of each edge of its band it is."""

    def __init__(self, cell: Cell, fold: Fold) -> None:
        self.cell = cell
        self._members = {name: index for index, name in enumerate(cell.names)}
        low, high = float(cell.population.low.min()), float(cell.population.high.max())
        band, closed = cell.band, not cell.band.strict
        self._inside, self._outside = [], []
        if band.low > low or (band.low == low and not closed):
            self._inside.append(Claim(cell.population, fold, band.low, "above"))
            self._outside.append(Claim(cell.population, fold, band.low, "below"))
        if band.high < high or (band.high == high and not closed and math.isfinite(high)):
            self._inside.append(Claim(cell.population, fold, band.high, "below"))
            self._outside.append(Claim(cell.population, fold, band.high, "above"))

    @property
    def edges(self) -> int:
        """How many edges it can be beyond."""
        return len(self._outside)

    def see(self, name: str, figure: float) -> None:
        """Note the figure of a weight, if it is one of the cell's."""
        member = self._members.get(name)
        if member is not None:
            for claim in (*self._inside, *self._outside):
                claim.see(member, figure)

    def limit(self, limits: Mapping[tuple[int, str], float]) -> None:
        """Learn what figures do not exceed, by step and weight."""
        population = _limited(self.cell, limits)
        for claim in (*self._inside, *self._outside):
            claim.limit(population)

    def awaits_limits(self, inside: float, outside: float) -> bool:
        """Whether what limits its figures may prove a claim, at these levels of proof."""
        claims = [*((claim, inside) for claim in self._inside), *((claim, outside) for claim in self._outside)]
        return any(claim.awaits_limits(level) for claim, level in claims)

    def judged(self, inside: float, outside: float) -> bool | None:
        """Whether it is in its band, at these levels of proof; None where that is open."""
        if any(claim.proven(outside) for claim in self._outside):
            return False
        return True if all(claim.proven(inside) for claim in self._inside) else None
