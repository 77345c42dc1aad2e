"""Which metrics a calibrated suite holds, and why others are left out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from geomcheck.calibration.statistics import Spread
from geomcheck.diagnostics import Metric, load_metrics
from geomcheck.errors import UsageError
from geomcheck.record import Record
from geomcheck.suite.folds import fold
from geomcheck.suite.language.places import Places
from geomcheck.suite.language.quantities import did_you_mean
from geomcheck.suite.language.selection import Selection
from geomcheck.suite.sampling import default_sample
from geomcheck.suite.verdict import Unanswerable

STABLE = 0.15
"""Largest sd / |mean|, at any checkpoint, of a metric that is stable across runs."""


def candidates(names: Sequence[str] | None) -> list[Metric]:
    """The metrics called `names`; by default all that need no reference run.

    Raises:
        UsageError: there is no such metric, or it compares with a reference run.
    """
    known = load_metrics()
    if names is None:
        return [metric for metric in known if metric.measured_by_default]
    for name in names:
        if name not in known:
            hint = did_you_mean(name, known.names())
            raise UsageError(f"no metric is called {name!r}; there are {', '.join(known.names())}{hint}")
        if known[name].against_reference:
            raise UsageError(f"{name} compares with a reference run, so runs by themselves say nothing about it")
    return [known[name] for name in dict.fromkeys(names)]


def follows(metric: Metric, chosen: Iterable[str]) -> str | None:
    """Why `metric` adds nothing to those `chosen`, or None."""
    told = metric.follows
    return told.why if told and (not told.leader or told.leader in chosen) else None


def spreads(metric: Metric, records: Sequence[Record], weights: Selection, places: Places) -> dict[int, Spread]:
    """The spread of a metric over `records`, by index into `places`; without places where it is fixed by definition.

    Raises:
        Unanswerable: it has no figure in one of the runs.
    """
    by_run = [_figures(metric, record, weights, places) for record in records]
    indices = sorted(set(by_run[0]).intersection(*by_run))
    if not indices:
        raise Unanswerable("it is fixed by definition at every calibrated checkpoint")
    return {index: Spread.of([figures[index] for figures in by_run]) for index in indices}


def _figures(metric: Metric, record: Record, weights: Selection, places: Places) -> dict[int, float]:
    """The folded figures of one run, as an expectation would fold them, by index into `places`."""
    found = default_sample(metric, record, weights, places)
    cells = [found.cells.get(point.step) for point in places.locate(record.points)]
    return {index: fold(cell, metric.fold, found.used) for index, cell in enumerate(cells) if cell is not None}
