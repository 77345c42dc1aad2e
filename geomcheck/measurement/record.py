"""The record of a measurement: a figure per (step, weight, metric, parameters, statistic), and what it came from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from geomcheck.checkpoints.weights import Weight
from geomcheck.errors import RecordError
from geomcheck.measurement.request import Request


@dataclass(frozen=True)
class Point:
    """One checkpoint of a trajectory.

    Attributes:
        name: its directory's name.
        step: optimizer step, as the framework counts.
        progress: share of the training done, 0..1.
    """

    name: str
    step: int
    progress: float


@dataclass(frozen=True)
class Origin:
    """Where W0 came from: the directory, and the rule that chose it."""

    path: str
    how: str


@dataclass(frozen=True)
class Figure:
    """One figure of one weight at one checkpoint.

    Exactly one of `value` (finite) and `undefined` (the reason why there is none) is set.
    """

    value: float | None = None
    undefined: str | None = None


@dataclass(frozen=True)
class Row:
    """A figure with its key, as a record file stores it."""

    step: int
    weight: str
    request: Request
    stat: str
    figure: Figure


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
            checkpoints only, another shape than W0, NaN).
        versions: of each measured metric's definition.
        fingerprints: digest of the measured weights by content, for W0 and each checkpoint by name.
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
    _figures: dict[tuple[Request, str], dict[tuple[int, str], Figure]] = field(default_factory=dict, repr=False)

    def add(self, row: Row) -> bool:
        """Store one figure; False where there is one already."""
        cells = self._figures.setdefault((row.request, row.stat), {})
        return cells.setdefault((row.step, row.weight), row.figure) is row.figure

    def figures(self, request: Request, stat: str) -> Mapping[tuple[int, str], Figure]:
        """Figures of one statistic by (step, weight).

        Checkpoints at which the figure is fixed by definition are absent.

        Raises:
            RecordError: it was not measured.
        """
        try:
            return self._figures[request, stat]
        except KeyError:
            raise RecordError(
                f"{request.metric} {request.params} ({stat}) was not measured for run {self.run!r}; "
                f"measured: {self._measured()}"
            ) from None

    def measured(self) -> list[tuple[Request, str]]:
        """Every (request, statistic) that has figures, sorted."""
        return sorted(self._figures)

    def measured_metrics(self) -> set[str]:
        """Names of the metrics that have figures."""
        return {request.metric for request, _ in self._figures}

    def measured_weights(self) -> set[str]:
        """Names of the weights that have figures."""
        return {weight for cells in self._figures.values() for _, weight in cells}

    def rows(self) -> Iterator[Row]:
        """All figures, ordered by step, weight, request and statistic."""
        keys = (
            (step, weight, request, stat) for (request, stat), cells in self._figures.items() for step, weight in cells
        )
        for step, weight, request, stat in sorted(keys):
            yield Row(step, weight, request, stat, self._figures[request, stat][step, weight])

    def _measured(self) -> str:
        names = sorted({f"{request.metric} {request.params}" for request, _ in self._figures})
        return ", ".join(names) or "nothing"
