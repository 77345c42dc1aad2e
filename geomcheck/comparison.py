"""Two runs side by side: every figure at matching progress, the layers that moved, what their updates share."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

from geomcheck.api import How, RunOrRecord, has_weights, measure, records_of
from geomcheck.checkpoints import BaseWeights
from geomcheck.checkpoints.weights import Layers
from geomcheck.diagnostics import Metric, load_metrics
from geomcheck.diagnostics.sketch import standard_error
from geomcheck.errors import UsageError
from geomcheck.record import Point, Record, Request
from geomcheck.record.points import matches, nearest
from geomcheck.suite.folds import fold
from geomcheck.suite.language.places import Place, Places
from geomcheck.suite.language.selection import DEFAULT, Selection
from geomcheck.suite.likeness import differences, start_difference
from geomcheck.suite.sampling import Question, Sample, default_sample
from geomcheck.suite.sketched import COSINE, answerable, sketched
from geomcheck.suite.verdict import Unanswerable

__all__ = ["Comparison", "LayerPair", "MetricPairs", "Pair", "Shared", "compare"]

MOVEMENT = "relative_update_norm"
DENSITY = "update_support"

Matched = Sequence[tuple[Point, Point]]


@dataclass(frozen=True)
class Pair:
    """A figure of both runs at checkpoints of matching progress, folded over weights.

    Attributes:
        step, other_step: of the first and the second run.
        progress: of the first run's checkpoint.
        ours, theirs: the first and the second run's figure, in the metric's unit.
    """

    step: int
    other_step: int
    progress: float
    ours: float
    theirs: float

    @property
    def difference(self) -> float:
        """The second run's figure minus the first's."""
        return self.theirs - self.ours

    @property
    def relative(self) -> float:
        """The difference as a share of the first run's figure; 0 between equals, infinite above a zero."""
        if self.difference == 0:
            return 0.0
        return self.difference / abs(self.ours) if self.ours else math.copysign(math.inf, self.difference)

    def to_dict(self) -> dict[str, Any]:
        """In plain builtins."""
        relative = self.relative if math.isfinite(self.relative) else None
        facts = {"step": self.step, "other_step": self.other_step, "progress": self.progress}
        return facts | {"a": self.ours, "b": self.theirs, "difference": self.difference, "relative": relative}


@dataclass(frozen=True)
class MetricPairs:
    """One metric at every pair of checkpoints, in the order of training."""

    metric: Metric
    pairs: tuple[Pair, ...]

    @property
    def widest(self) -> Pair:
        """The pair with the largest relative difference; of several, the first."""
        return max(self.pairs, key=lambda pair: abs(pair.relative))


@dataclass(frozen=True)
class LayerPair:
    """How far a layer moved in both runs at the last matching checkpoints: mean relative update norm."""

    layer: str
    ours: float
    theirs: float

    @property
    def ratio(self) -> float:
        """The second run's over the first's: 1 between equals, infinite over zero."""
        if self.ours == self.theirs:
            return 1.0
        return self.theirs / self.ours if self.ours else math.inf

    @property
    def contrast(self) -> float:
        """``|log(ratio)|``: infinite where one run alone left the layer as it was."""
        return abs(math.log(self.ratio)) if 0 < self.ratio < math.inf else math.inf


@dataclass(frozen=True)
class Shared:
    """What the two updates have in common at one pair of checkpoints, beside what chance gives, if that is known: a
    figure of `metric` where it compares with a reference run. `error` is its standard error where sketches gave it."""

    metric: Metric
    step: int
    value: float
    chance: float | None
    error: float | None = None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two runs of one model, `a` and `b`.

    Attributes:
        rows: metrics that both have.
        layers: the layers whose update norms differ most, first.
        shared: overlap of the updates; empty where it cannot be told.
        unanswered: (what, why) of everything that could not be compared.
        notes: what a reader should know before the figures.
    """

    a: str
    b: str
    rows: tuple[MetricPairs, ...]
    layers: tuple[LayerPair, ...]
    shared: tuple[Shared, ...]
    unanswered: tuple[tuple[str, str], ...]
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """In plain builtins; differences are `b` minus `a`, relative ones null where `a` is zero."""
        return {
            "format": 1,
            "a": self.a,
            "b": self.b,
            "metrics": [
                {"metric": row.metric.name, "params": row.metric.defaults, "pairs": [p.to_dict() for p in row.pairs]}
                for row in self.rows
            ],
            "layers": [{"layer": pair.layer, "a": pair.ours, "b": pair.theirs} for pair in self.layers],
            "shared": [
                {
                    "metric": s.metric.name,
                    "params": {**s.metric.defaults, **(s.metric.with_reference or {})},
                    "step": s.step,
                    "value": s.value,
                    "chance": s.chance,
                    "error": s.error,
                }
                for s in self.shared
            ],
            "notes": list(self.notes),
            "unanswered": [{"what": what, "why": why} for what, why in self.unanswered],
        }


def compare(
    a: RunOrRecord,
    b: RunOrRecord,
    *,
    base: BaseWeights | str | Path | None = None,
    weights: Selection = DEFAULT,
    **how: Unpack[How],
) -> Comparison:
    """Every figure of two runs at matching progress, with default parameters.

    Args:
        a, b: opened runs, directories, records or record files. The overlap of their updates needs the same W0, and
            both runs' weights; of records, the cosine of the updates is told from sketches.
        base: W0 of the runs that are measured; by default what each run provides.
        weights: figures are folded over these.
        how: workers, device, cache and the like of `geomcheck.measure`.

    Raises:
        UsageError: the runs have other weights, storage or definitions, or no checkpoints of matching progress.
        RunError: a run cannot be read or trusted.
    """
    ours, theirs = records_of([a, b], base=base, weights=weights, **how)
    difference = next(differences(ours, theirs, weights), None)
    if difference is not None:
        raise UsageError(f"{ours.path} and {theirs.path} cannot be compared: {difference}")
    matched, start = _matched(ours, theirs), start_difference(ours, theirs)
    overlaps = [metric for metric in load_metrics() if metric.with_reference is not None]
    rows, shared, unanswered = [], [], []
    for metric in (metric for metric in load_metrics() if metric.measured_by_default):
        try:
            rows.append(_pairs(metric, ours, theirs, matched, weights))
        except Unanswerable as error:
            unanswered.append((metric.name, str(error)))
    if not (has_weights(a) and has_weights(b)):
        told = _from_sketches(ours, theirs, matched[-1], weights) if start is None else None
        reason = "needs the weights of both runs, and a record holds none; give run directories"
        shared += [told] if told else []
        unanswered += [(metric.name, reason) for metric in overlaps if not told or metric != told.metric]
    elif start is not None:
        unanswered += [(metric.name, str(start)) for metric in overlaps]
    else:
        asked = [Request.of(metric, metric.with_reference or {}) for metric in overlaps]
        overlap = measure(a, base=base, metrics=asked, weights=weights, reference=b, **how)
        for metric in overlaps:
            try:
                shared.append(_shared(metric, overlap, (ours, theirs), matched[-1], weights))
            except Unanswerable as error:
                unanswered.append((metric.name, str(error)))
    return Comparison(
        a=ours.path,
        b=theirs.path,
        rows=tuple(rows),
        layers=tuple(_layers(ours, theirs, matched[-1], weights)),
        shared=tuple(shared),
        unanswered=tuple(unanswered),
        notes=(f"{start}: sizes can be compared, what they changed cannot",) if start else (),
    )


def _matched(ours: Record, theirs: Record) -> Matched:
    """Pairs of checkpoints of matching progress, each checkpoint of the second run once."""
    pairs: dict[int, tuple[Point, Point]] = {}
    for point in ours.points:
        other = nearest(theirs.points, point.progress)
        if matches(other, point.progress):
            pairs.setdefault(other.step, (point, other))
    if not pairs:
        shown = " against ".join(" ".join(f"{p.progress:.0%}" for p in record.points) for record in (ours, theirs))
        raise UsageError(f"no checkpoints of {ours.path} and {theirs.path} match in progress: {shown}")
    return list(pairs.values())


def _pairs(metric: Metric, ours: Record, theirs: Record, matched: Matched, weights: Selection) -> MetricPairs:
    """One metric at every pair of checkpoints. Raises Unanswerable."""
    first, second = (
        default_sample(metric, record, weights, _at(points))
        for record, points in zip((ours, theirs), zip(*matched, strict=True), strict=True)
    )
    pairs = [
        Pair(one.step, other.step, one.progress, _folded(first, one, metric), _folded(second, other, metric))
        for one, other in matched
        if one.step in first.cells and other.step in second.cells
    ]
    if not pairs:
        raise Unanswerable("it is fixed by definition at every matching checkpoint")
    return MetricPairs(metric, tuple(pairs))


def _folded(found: Sample, point: Point, metric: Metric) -> float:
    return fold(found.cells[point.step], metric.fold, found.used)


def _at(points: Sequence[Point]) -> Places:
    return Places(tuple(Place(step=point.step) for point in points))


def _layers(ours: Record, theirs: Record, last: tuple[Point, Point], weights: Selection) -> list[LayerPair]:
    """Every layer's movement at the last matching checkpoints, the most different first."""
    layers = Layers(ours.weights.values())
    try:
        before, after = (_by_layer(record, p, weights, layers) for record, p in zip((ours, theirs), last, strict=True))
    except Unanswerable:
        return []
    both = [LayerPair(layer, before[layer], after[layer]) for layer in before if layer in after]
    return sorted(both, key=lambda pair: -pair.contrast)


def _by_layer(record: Record, point: Point, weights: Selection, layers: Layers) -> dict[str, float]:
    found = default_sample(load_metrics()[MOVEMENT], record, weights, _at([point]))
    by_layer: dict[str, list[float]] = {}
    for name, value in found.cells[point.step].items():
        by_layer.setdefault(layers.label(found.used[name]), []).append(value)
    return {layer: statistics.fmean(values) for layer, values in by_layer.items()}


def _from_sketches(ours: Record, theirs: Record, last: tuple[Point, Point], weights: Selection) -> Shared | None:
    """The cosine of the updates at the last matching checkpoints, where both records have sketches of them."""
    metric = load_metrics()[COSINE]
    params = {**metric.defaults, **(metric.with_reference or {})}
    question = Question(metric=metric, params=params, weights=weights, at=_at(last[:1]))
    try:
        if not answerable(question, ours, theirs):
            return None
        found = default_sample(metric, sketched(question, ours, theirs), weights, question.at, params)
    except Unanswerable:
        return None
    errors = [standard_error(value) for value in found.cells[last[0].step].values()]
    return Shared(metric, last[0].step, _folded(found, last[0], metric), 0.0, math.hypot(*errors) / len(errors))


def _shared(
    metric: Metric, overlap: Record, records: tuple[Record, Record], last: tuple[Point, Point], weights: Selection
) -> Shared:
    """The overlap of the updates at the last matching checkpoints, beside chance. Raises Unanswerable."""
    found = default_sample(metric, overlap, weights, _at(last[:1]), metric.with_reference)
    chance = None
    if metric.chance:
        density = load_metrics()[DENSITY]
        p, q = (
            default_sample(density, record, weights, _at([point])).cells[point.step]
            for record, point in zip(records, last, strict=True)
        )
        by_weight = {n: metric.chance(metric.defaults, w.shape, (p[n], q[n])) for n, w in found.used.items()}
        chance = fold(by_weight, metric.fold, found.used)
    return Shared(metric, last[0].step, _folded(found, last[0], metric), chance)
