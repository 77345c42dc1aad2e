"""The record of a measurement: a figure per step, weight, metric, parameters and statistic, and its provenance."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from geomcheck.checkpoints import Account, Weight
from geomcheck.errors import RecordError
from geomcheck.record.column import Column, Figure
from geomcheck.record.long import to_pandas
from geomcheck.record.notebook import html_of
from geomcheck.record.points import Origin, Point
from geomcheck.record.request import Request
from geomcheck.record.routes import Tally
from geomcheck.record.sketches import Sketches

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True)
class Row:
    """A figure with its key, as a record file stores it."""

    step: int
    weight: str
    request: Request
    stat: str
    figure: Figure


UNKNOWN = -1
"""The number of a tensor in `Record.contents` whose content is not known."""

Columns = dict[tuple[Request, str], Column]
"""Figures by what was requested and by statistic."""


def columns_of(rows: Iterable[Row]) -> Columns:
    """Collect single figures into columns. Of two figures of one weight at one step, the first counts."""
    figures: dict[tuple[Request, str], dict[tuple[int, str], Figure]] = {}
    for row in rows:
        figures.setdefault((row.request, row.stat), {}).setdefault((row.step, row.weight), row.figure)
    return {key: Column.of(found) for key, found in figures.items()}


@dataclass
class Record:
    """Everything measured of one run.

    Attributes:
        run: the run's name (its directory's name).
        path: the run's directory.
        layout: how the run was stored.
        points: the checkpoints, ascending by step.
        origin: where W0 came from.
        weights: every tensor of the run by name, in name order.
        skipped: weights that cannot be measured at all, with the reason (not a matrix, in part of the
            checkpoints only, another shape than W0, too large for the memory there is).
        versions: of each measured metric's definition.
        fingerprints: digest of the measured weights by content, for W0 and each checkpoint by name.
        w0: digest of W0 by content, for each measured weight; empty in a record that an older geomcheck wrote.
        contents: for W0 and each checkpoint by name, a number for each of `weights`, in their order: two tensors have
            one number where they are equal to the bit, wherever they lie, and `UNKNOWN` where nothing was read, as of
            what an adapter leaves alone. Empty in a record that an older geomcheck wrote.
        notes: oddities of the run that a reader of its figures should know of.
        routes: how often each algorithm answered, with its worst certificate, by quantity and algorithm.
        device: where the figures were computed, as torch names it; empty where that is not known.
        account: scores and constraint of the run; None of a record that an older geomcheck wrote.
        columns: the figures, by request and statistic; those that are fixed by definition are left out.
        left_out: weights of which a session with ``--geom-budget`` did not measure all that was asked for; where there
            are any, the record is partial.
        sketches: of the updates, for cosines with other records; none in a record that an older geomcheck wrote.
    """

    run: str
    path: str
    layout: str
    points: tuple[Point, ...]
    origin: Origin
    weights: dict[str, Weight] = field(repr=False)
    skipped: dict[str, str] = field(default_factory=dict, repr=False)
    versions: dict[str, int] = field(default_factory=dict, repr=False)
    fingerprints: dict[str, str] = field(default_factory=dict, repr=False)
    w0: dict[str, str] = field(default_factory=dict, repr=False)
    contents: dict[str, tuple[int, ...]] = field(default_factory=dict, repr=False)
    notes: tuple[str, ...] = ()
    routes: dict[str, dict[str, Tally]] = field(default_factory=dict, repr=False)
    device: str = ""
    left_out: tuple[str, ...] = field(default=(), repr=False)
    account: Account | None = field(default=None, repr=False)
    columns: Columns = field(default_factory=dict, repr=False)
    sketches: Sketches = field(default_factory=Sketches, repr=False)

    def take_figures(self, other: Record) -> None:
        """Take over the figures that were measured for `other`, and how. Raises RecordError where it is not a record of
        the same weights and checkpoints."""
        if self.points != other.points or self.weights != other.weights:
            raise RecordError(f"the figures of run {other.run!r} are not those of run {self.run!r}")
        self.columns, self.routes, self.sketches = other.columns, other.routes, other.sketches

    def column(self, request: Request, stat: str) -> Column:
        """All figures of one statistic, as arrays. Raises RecordError where it was not measured."""
        if (request, stat) not in self.columns:
            measured = ", ".join(sorted({f"{known.metric} {known.params}" for known, _ in self.columns}))
            raise RecordError(
                f"{request.metric} {request.params} ({stat}) was not measured for run {self.run!r}; "
                f"measured: {measured or 'nothing'}"
            )
        return self.columns[request, stat]

    def figures(self, request: Request, stat: str) -> Mapping[tuple[int, str], Figure]:
        """The same figures by (step, weight). Raises RecordError."""
        return self.column(request, stat).figures

    def measured(self) -> list[tuple[Request, str]]:
        """Every (request, statistic) that has figures, sorted."""
        return sorted(self.columns)

    def measured_metrics(self) -> set[str]:
        """Names of the metrics that have figures."""
        return {request.metric for request, _ in self.columns}

    def measured_weights(self) -> set[str]:
        """Names of the weights that have figures."""
        return set().union(*(column.weights() for column in self.columns.values()))

    def rows(self) -> Iterator[Row]:
        """All figures, ordered by step, weight, request and statistic."""
        keys = (
            (step, weight, request, stat)
            for (request, stat), column in self.columns.items()
            for step, weight in column.figures
        )
        for step, weight, request, stat in sorted(keys):
            yield Row(step, weight, request, stat, self.columns[request, stat].figures[step, weight])

    def to_pandas(self) -> DataFrame:
        """All figures as a data frame, a row each: run, checkpoint, step, progress (0..1), metric, params (JSON), stat,
        weight, stack, layer, module, value, unit (``fraction``, ``deg`` or ``number``) and undefined, the reason where
        there is no value. Raises UsageError where pandas is not installed."""
        return to_pandas(self)

    def _repr_html_(self) -> str:
        """The record in a notebook: where it comes from, and how its last figures spread over the weights."""
        return html_of(self)
