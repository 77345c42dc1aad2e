"""A record as arrays: per figure one table of checkpoints by weights."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from geomcheck.diagnostics import Fold, Metric, Unit, Words, load_metrics
from geomcheck.record import Record, Request
from geomcheck.report.html.language import plain_words
from geomcheck.report.html.numbers import Form

FROZEN = Request("frozen_share")


@dataclass(frozen=True)
class Column:
    """One figure of every weight at every checkpoint.

    Attributes:
        values: shape (checkpoints, weights), float64, NaN where there is no figure. Weights that have not changed
            have those that the metric defines for them.
        sizes: number of entries of each weight.
    """

    request: Request
    stat: str
    values: np.ndarray
    sizes: np.ndarray

    @property
    def key(self) -> str:
        """What identifies the figure in a page, and between records."""
        return f"{self.request.metric} {self.request.params} {self.stat}"

    @cached_property
    def metric(self) -> Metric | None:
        """The declaration; None for a metric that this installation does not know."""
        return load_metrics().get(self.request.metric)

    @property
    def title(self) -> str:
        """The figure's name, with the parameters that differ from their defaults."""
        metric = self.metric
        if metric is None:
            return f"{self.request.metric} ({self.stat})"
        given = self.request.parameters()
        own = [f"{name} = {value}" for name, value in given.items() if not _is_default(metric, name, value)]
        own = ["excess over chance" if text == "excess_over = shuffled" else text for text in own]
        own += [self.stat.replace(".", ", ")] if self.stat != metric.stat({}) else []
        return f"{metric.title} ({', '.join(own)})" if own else metric.title

    @property
    def form(self) -> Form:
        """How its figures are written: shares with a natural end at 1 in percent."""
        if self.metric is None:
            return Form()
        return Form(
            percent=self.metric.unit is Unit.FRACTION and self.metric.high == 1.0,
            degrees=self.metric.unit is Unit.DEGREES,
        )

    @property
    def words(self) -> Words:
        """The figure in plain words."""
        metric = self.metric
        return plain_words(self.request.metric, self.title, metric.definition if metric else "a metric of its record")

    @property
    def fold(self) -> Fold:
        """How figures of several weights become one."""
        return self.metric.fold if self.metric else "mean"

    def folded(self, members: np.ndarray | slice = slice(None)) -> np.ndarray:
        """One figure per checkpoint of the weights `members`: their mean, by size where the metric folds so."""
        values = self.values[:, members]
        present = ~np.isnan(values)
        weights = present * (self.sizes[members] if self.fold == "weighted" else 1.0)
        total = weights.sum(axis=1)
        with np.errstate(invalid="ignore", over="ignore"):
            folded = np.where(present, values * weights, 0.0).sum(axis=1) / total
        return np.where(np.isfinite(folded), folded, np.nan)

    def quartiles(self) -> np.ndarray:
        """The lower and upper quartile over weights at each checkpoint, shape (checkpoints, 2)."""
        rows = [row[~np.isnan(row)] for row in self.values]
        return np.array([np.quantile(row, (0.25, 0.75)) if len(row) else (np.nan, np.nan) for row in rows])


class Columns:
    """The figures of one record, each read when first asked for."""

    def __init__(self, record: Record) -> None:
        self.record = record
        measured = record.measured_weights()
        ordered = sorted(
            (record.weights[name] for name in measured), key=lambda w: (w.layer is None, w.layer or 0, w.name)
        )
        self.weights = ordered
        self.steps = [point.step for point in record.points]
        self._place = {weight.name: index for index, weight in enumerate(ordered)}
        self._row = {step: index * len(ordered) for index, step in enumerate(self.steps)}
        self._sizes = np.array([weight.numel for weight in ordered], dtype=float)
        self._read: dict[tuple[Request, str], Column] = {}
        self._measured = set(record.measured())

    def has(self, request: Request, stat: str) -> bool:
        """Whether the record holds this figure."""
        return (request, stat) in self._measured

    def column(self, request: Request, stat: str) -> Column:
        """One figure. Raises RecordError where it was not measured."""
        if (request, stat) not in self._read:
            values = self._table(request, stat)
            metric = load_metrics().get(request.metric)
            if metric is None or not metric.when_unchanged:
                values[self.frozen] = np.nan
            self._read[request, stat] = Column(request, stat, values, self._sizes)
        return self._read[request, stat]

    @cached_property
    def frozen(self) -> np.ndarray:
        """Which weights equal W0, by checkpoint."""
        if not self.has(FROZEN, "value"):
            return np.zeros((len(self.steps), len(self.weights)), dtype=bool)
        return self._table(FROZEN, "value") == 1.0

    def of(self, metric: str, stat: str | None = None) -> Column | None:
        """The figure of `metric`: with default parameters where that was measured, else the first there is."""
        known = load_metrics()
        if metric not in known:
            return None
        stat = stat or known[metric].stat({})
        default = Request.of(known[metric], {})
        found = [request for request, own in self._measured if request.metric == metric and own == stat]
        if not found:
            return None
        return self.column(default if default in found else min(found), stat)

    def principal(self) -> list[tuple[Request, str]]:
        """Every figure that stands for its metric: not the other statistics of a vector, not the terms of an excess."""
        known = load_metrics()
        return [
            (request, stat)
            for request, stat in sorted(self._measured)
            if request.metric not in known or stat == known[request.metric].stat({})
        ]

    def _table(self, request: Request, stat: str) -> np.ndarray:
        cells = self.record.figures(request, stat)
        table = np.full(len(self.steps) * len(self.weights), np.nan)
        places = [self._row[step] + self._place[weight] for step, weight in cells]
        table[places] = [np.nan if figure.value is None else figure.value for figure in cells.values()]
        return table.reshape(len(self.steps), len(self.weights))


def _is_default(metric: Metric, name: str, value: object) -> bool:
    parameter = metric.parameter(name)
    return parameter is not None and parameter.default == value
