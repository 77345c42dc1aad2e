"""The figures of a record as trajectories: of the run, or of each layer, module or weight, with why one is missing."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from geomcheck._text import and_more, plural
from geomcheck.checkpoints.weights import Layers, Weight
from geomcheck.diagnostics import Unit
from geomcheck.record import Point, is_trivial
from geomcheck.record.long import unit_of
from geomcheck.report.facts import grouped
from geomcheck.report.figures import Figures, Statistic
from geomcheck.suite.groups import group_of
from geomcheck.suite.language.quantities import Scale
from geomcheck.suite.language.selection import Selection


@dataclass(frozen=True)
class Cell:
    """A figure at a checkpoint, folded over the weights that have one.

    Attributes:
        value: None where no weight has one.
        gap: why some weight, or all, have none; empty where all have.
        trivial: whether there is none by definition.
    """

    point: Point
    value: float | None
    gap: str = ""
    trivial: bool = False


@dataclass(frozen=True)
class Trajectory:
    """One statistic of one group of weights, None for the whole run; a cell per checkpoint."""

    statistic: Statistic
    group: str | None
    weights: Sequence[Weight]
    cells: Sequence[Cell]

    @property
    def values(self) -> list[float | None]:
        """The figures alone."""
        return [cell.value for cell in self.cells]

    @property
    def name(self) -> str:
        """What the statistic is called in a text."""
        return self.statistic.name

    def shown(self, value: float | None, digits: int = 4) -> str:
        """A figure as texts write it, without the unit that `name` has; a dash where there is none."""
        metric = self.statistic.metric
        return "-" if value is None else Scale(Unit.NUMBER, bool(metric and metric.is_share)).show(value, digits)

    def rows(self, run: str) -> Iterator[dict[str, Any]]:
        """A row per checkpoint, in the columns of `geomcheck.record.long`."""
        request = self.statistic.request
        shared = {
            "weight": _common([weight.name for weight in self.weights]),
            "stack": _common([weight.stack or None for weight in self.weights]),
            "layer": _common([weight.layer for weight in self.weights]),
            "module": _common([weight.module for weight in self.weights]),
        }
        for cell in self.cells:
            yield {
                "run": run,
                "checkpoint": cell.point.name,
                "step": cell.point.step,
                "progress": cell.point.progress,
                "metric": request.metric,
                "params": request.params,
                "stat": self.statistic.stat,
                **shared,
                "value": cell.value,
                "unit": unit_of(request.metric),
                "undefined": cell.gap or None,
            }

    def to_dict(self) -> dict[str, Any]:
        """In plain builtins; figures that are not there as null with the reason."""
        request, statistic = self.statistic.request, self.statistic
        return {
            "metric": request.metric,
            "params": request.parameters(),
            "stat": statistic.stat,
            "unit": unit_of(request.metric),
            "fold": statistic.fold,
            "group": self.group,
            "weights": len(self.weights),
            "figures": [
                {"step": cell.point.step, "value": cell.value} | ({"reason": cell.gap} if cell.gap else {})
                for cell in self.cells
            ],
        }


def trajectories(
    figures: Figures, *, per: str = "run", metrics: Sequence[str] = (), weights: Selection | None = None
) -> list[Trajectory]:
    """Those of every statistic that stands for its metric, by metric and then in the order of the network.

    Args:
        per: ``run``, ``layer``, ``module`` or ``weight``.
        metrics: their names; by default all.
        weights: by default those that stand for the run, its linear maps.

    Raises:
        Unanswerable: no weight is selected.
    """
    layers = Layers(figures.record.weights.values())
    names = {weight.name for weight in weights.select(figures.record.weights)} if weights else set()
    chosen = [i for i, weight in enumerate(figures.weights) if weight.name in names] if weights else figures.represented
    left_out = {i for i, weight in enumerate(figures.weights) if weight.name in figures.record.left_out}
    found = []
    for statistic in figures.principal():
        if metrics and statistic.request.metric not in metrics:
            continue
        measured = set(np.flatnonzero(figures.table(statistic).there.any(axis=0)).tolist()) | left_out
        places = [place for place in sorted(chosen) if place in measured]
        groups = grouped((group_of(figures.weights[place], per, layers), place) for place in places)
        found += [_trajectory(figures, statistic, group, members) for group, members in groups.items()]
    return found


def _trajectory(figures: Figures, statistic: Statistic, group: str | None, places: Sequence[int]) -> Trajectory:
    points, metric = figures.record.points, statistic.metric
    weights = [figures.weights[place] for place in places]
    cells = []
    for index, (point, value) in enumerate(zip(points, figures.folded_of(statistic, places), strict=True)):
        if metric and is_trivial(metric, statistic.request.parameters(), points, index):
            cells.append(Cell(point, None, "fixed by definition there", trivial=True))
        else:
            gap = _gap(figures, statistic, index, places)
            known = not math.isnan(value)
            cells.append(Cell(point, value if known else None, gap or ("" if known else "not finite")))
    return Trajectory(statistic, group, weights, cells)


def _gap(figures: Figures, statistic: Statistic, index: int, places: Sequence[int]) -> str:
    """Why weights have no figure at a checkpoint, and how many of them."""
    missing = np.isnan(figures.values(statistic)[index])
    without = [place for place in places if missing[place]]
    if not without:
        return ""
    reasons = Counter(_reason(figures, statistic, index, place) for place in without)
    told = "; ".join(reason for reason, _ in reasons.most_common(2))
    example = f"{figures.weights[without[0]].name}{and_more(len(without))}"
    return f"{len(without)} of {plural(len(places), 'weight')} without a figure, {example}: {told}"


def _reason(figures: Figures, statistic: Statistic, index: int, place: int) -> str:
    table = figures.table(statistic)
    if (index, place) in table.reasons:
        return table.reasons[index, place]
    if not table.there[index, place]:
        return "not measured there"
    return "it equals W0 there" if figures.frozen[index, place] else "not finite"


def _common(values: Sequence[Any]) -> Any:
    """What all have in common; None where they differ."""
    return values[0] if all(value == values[0] for value in values) else None
