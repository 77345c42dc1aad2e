"""The figures of a record as reports show them: tables of checkpoints by weights, folded as the gate folds them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from geomcheck.checkpoints.weights import in_network
from geomcheck.diagnostics import Fold, Metric, load_metrics
from geomcheck.record import Record, Request
from geomcheck.record.column import Table
from geomcheck.record.long import unit_of
from geomcheck.report.charts.numbers import Form
from geomcheck.suite.folds import fold


@dataclass(frozen=True, order=True)
class Statistic:
    """One statistic of a metric with its parameters, and how it is called and written."""

    request: Request
    stat: str

    @property
    def key(self) -> str:
        """What identifies it in a page, and between records."""
        return f"{self.request.metric} {self.request.params} {self.stat}"

    @property
    def metric(self) -> Metric | None:
        """The declaration; None for a metric that this installation does not know."""
        return load_metrics().get(self.request.metric)

    @property
    def title(self) -> str:
        """Its name, with the parameters that differ from their defaults."""
        metric = self.metric
        if metric is None:
            return f"{self.request.metric} ({self.stat})"
        return f"{metric.title} ({', '.join(self.own)})" if self.own else metric.title

    @property
    def own(self) -> list[str]:
        """What differs from the metric's defaults, in words."""
        metric = self.metric
        if metric is None:
            return []
        defaults = [(parameter.name, parameter.default) for parameter in metric.parameters]
        own = [f"{pair[0]} = {pair[1]}" for pair in self.request.parameters().items() if pair not in defaults]
        own = ["excess over chance" if text == "excess_over = shuffled" else text for text in own]
        return own + ([self.stat.replace(".", ", ")] if self.stat != metric.stat({}) else [])

    @property
    def name(self) -> str:
        """The metric's name, with what differs from its defaults, and the unit that figures in texts do not carry."""
        own = f" ({', '.join(text.replace(' = ', '=') for text in self.own)})" if self.own else ""
        return f"{self.request.metric}{own}{' (deg)' * (unit_of(self.request.metric) == 'deg')}"

    @property
    def form(self) -> Form:
        """How its figures are written."""
        return Form.of_metric(self.metric) if self.metric else Form()

    @property
    def fold(self) -> Fold:
        """How figures of several weights become one."""
        return self.metric.fold if self.metric else "mean"


FROZEN = Statistic(Request("frozen_share"), "value")


class Figures:
    """The figures of one record, each read when first asked for.

    Attributes:
        weights: those that have figures, in the order of the network: the columns of every table.
        steps: of the checkpoints: the rows.
    """

    def __init__(self, record: Record) -> None:
        self.record = record
        measured = (record.weights[name] for name in record.measured_weights())
        self.weights = sorted(measured, key=in_network)
        self.steps = [point.step for point in record.points]
        self._measured = {Statistic(*key) for key in record.measured()}
        self._tables: dict[Statistic, Table] = {}
        self._values: dict[Statistic, np.ndarray] = {}
        self._folded: dict[Statistic, list[float]] = {}

    def has(self, statistic: Statistic) -> bool:
        """Whether the record holds it."""
        return statistic in self._measured

    def table(self, statistic: Statistic) -> Table:
        """All its figures. Raises RecordError where it was not measured."""
        if statistic not in self._tables:
            column = self.record.column(statistic.request, statistic.stat)
            self._tables[statistic] = Table.of(column, self.steps, [weight.name for weight in self.weights])
        return self._tables[statistic]

    def values(self, statistic: Statistic) -> np.ndarray:
        """Its figures, shape (checkpoints, weights); NaN where there is none.

        Of weights that have not changed there is one where the metric defines it.
        """
        if statistic not in self._values:
            metric, values = statistic.metric, self.table(statistic).values
            defined = metric is not None and metric.when_unchanged
            self._values[statistic] = values if defined else np.where(self.frozen, np.nan, values)
        return self._values[statistic]

    @cached_property
    def frozen(self) -> np.ndarray:
        """Which weights equal W0, by checkpoint."""
        if not self.has(FROZEN):
            return np.zeros((len(self.steps), len(self.weights)), dtype=bool)
        return self.table(FROZEN).values == 1.0

    def folded(self, statistic: Statistic) -> list[float]:
        """One figure per checkpoint, of the weights that are `represented`; NaN where there is none that is finite."""
        if statistic not in self._folded:
            self._folded[statistic] = self.folded_of(statistic, self.represented)
        return self._folded[statistic]

    def folded_of(self, statistic: Statistic, places: Sequence[int]) -> list[float]:
        """The same of the weights at `places`."""
        rows = self.values(statistic)[:, places].tolist()
        names = [self.weights[place].name for place in places]
        present = [{name: value for name, value in zip(names, row, strict=True) if value == value} for row in rows]
        folded = [fold(of, statistic.fold, self.record.weights) if of else math.nan for of in present]
        return [value if math.isfinite(value) else math.nan for value in folded]

    @cached_property
    def represented(self) -> list[int]:
        """The columns of the weights that stand for the run: its linear maps, whatever else a suite looks at; all where
        none has figures. In the order in which `fold` adds them, which spares it sorting."""
        linear = [place for place, weight in enumerate(self.weights) if weight.is_linear]
        return sorted(linear or range(len(self.weights)), key=lambda place: self.weights[place].name)

    def quartiles(self, statistic: Statistic) -> np.ndarray:
        """The lower and upper quartile over the same weights at each checkpoint, shape (checkpoints, 2)."""
        rows = [row[~np.isnan(row)] for row in self.values(statistic)[:, self.represented]]
        return np.array([np.quantile(row, (0.25, 0.75)) if len(row) else (np.nan, np.nan) for row in rows])

    def of(self, metric: str, stat: str | None = None) -> Statistic | None:
        """The statistic of `metric`: with default parameters where that was measured, else the first there is."""
        known = load_metrics()
        if metric not in known:
            return None
        stat = stat or known[metric].stat({})
        default = Statistic(Request.of(known[metric], {}), stat)
        found = [own for own in self._measured if own.request.metric == metric and own.stat == stat]
        return default if default in found else min(found, default=None)

    def principal(self) -> list[Statistic]:
        """Those that stand for their metrics: not the other statistics of a vector, not the terms of an excess."""
        return [own for own in sorted(self._measured) if own.metric is None or own.stat == own.metric.stat({})]
