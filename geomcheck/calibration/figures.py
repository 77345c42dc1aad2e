"""The folded figures of good runs, which bands come from: measured, or as a calibrated suite carries them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from geomcheck.diagnostics import Metric
from geomcheck.record import Record
from geomcheck.suite.folds import fold
from geomcheck.suite.good_runs import GoodRuns
from geomcheck.suite.language.places import Place, Places
from geomcheck.suite.language.selection import Selection
from geomcheck.suite.sampling import default_sample

ByRun = tuple[Mapping[Place, float], ...]
"""For each run its figure at each checkpoint where there is one."""


def expectation_id(metric: Metric, of: str = "") -> str:
    """The id of the expectation of `metric`; `of` is the word for its weights where they are not those of the suite."""
    return f"{metric.name.replace('_', '-')}{f'-of-{of}' * bool(of)}"


def words_for(metric: str, params: Mapping[str, Any], fold_: str, weights: Selection) -> str:
    """What the figures of an expectation are of, in words that tell two of them apart."""
    given = ", ".join(f"{name} {value}" for name, value in params.items())
    return f"{fold_} {metric}{f' ({given})' * bool(given)} of {weights.text}"


@dataclass
class Gathered:
    """The figures of runs as they are asked for.

    Attributes:
        records: of the runs that were measured.
        past: what a suite carries of earlier ones, which come first; None where there are none.
        found: what was asked for and is there, by id of the expectation.
        words: what these figures are of.
    """

    records: Sequence[Record]
    past: GoodRuns | None = None
    found: dict[str, ByRun] = field(default_factory=dict)
    words: dict[str, str] = field(default_factory=dict)

    def of(self, metric: Metric, weights: Selection, places: Places, word: str = "") -> ByRun:
        """The figures of a metric, as an expectation would fold them. Raises Unanswerable, which names the run."""
        name = expectation_id(metric, word)
        self.words[name] = words_for(metric.name, metric.defaults, metric.fold, weights)
        self.found[name] = (*self._earlier(name), *(_measured(metric, r, weights, places) for r in self.records))
        return self.found[name]

    def _earlier(self, name: str) -> list[dict[Place, float]]:
        if self.past is None:
            return []
        rows = self.past.figures[name].rows
        return [{row.place: row.figures[run] for row in rows} for run in range(len(self.past.runs))]


def _measured(metric: Metric, record: Record, weights: Selection, places: Places) -> dict[Place, float]:
    found = default_sample(metric, record, weights, places)
    points = places.locate_all(record.points)
    cells = {place: found.cells.get(point.step) for place, point in zip(places.places, points, strict=True)}
    return {place: fold(cell, metric.fold, found.used) for place, cell in cells.items() if cell is not None}
