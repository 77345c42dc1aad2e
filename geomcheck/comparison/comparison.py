"""Compare two runs, metric by metric at matching progress."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

from geomcheck.api import measure
from geomcheck.checkpoints import BaseWeights
from geomcheck.comparison.contrast import Comparison, LayerPair, MetricPairs, Pair, Shared
from geomcheck.diagnostics import Metric, load_metrics
from geomcheck.errors import UsageError
from geomcheck.record import Point, Record
from geomcheck.record.points import matches, nearest
from geomcheck.sources import Source, records_of
from geomcheck.suite.folds import fold
from geomcheck.suite.language.places import Place, Places
from geomcheck.suite.language.selection import DEFAULT, Selection
from geomcheck.suite.likeness import differences, start_difference
from geomcheck.suite.sampling import Sample, default_sample
from geomcheck.suite.verdict import Unanswerable

MOVEMENT = "relative_update_norm"
DENSITY = "update_support"

Matched = Sequence[tuple[Point, Point]]


def compare(
    a: Source,
    b: Source,
    *,
    base: BaseWeights | str | Path | None = None,
    weights: Selection = DEFAULT,
    workers: int | None = None,
) -> Comparison:
    """Every figure of two runs at matching progress, with default parameters.

    Args:
        a, b: opened runs, directories, records or record files. The overlap of their updates needs both runs'
            weights and the same W0.
        base: W0 of the runs that are measured; by default what each run provides.
        weights: figures are folded over these.

    Raises:
        UsageError: the runs have other weights, storage or definitions, or no checkpoints of matching progress.
        RunError: a run cannot be read or trusted.
    """
    ours, theirs = records_of([a, b], base=base, weights=weights, workers=workers)
    difference = next(differences(ours, theirs, weights), None)
    if difference is not None:
        raise UsageError(f"{ours.path} and {theirs.path} cannot be compared: {difference}")
    matched = _matched(ours, theirs)
    metrics = [metric for metric in load_metrics() if metric.measured_by_default]
    overlaps = [metric for metric in load_metrics() if metric.against_reference]
    rows, shared, unanswered = [], [], []
    for metric in metrics:
        try:
            rows.append(_pairs(metric, ours, theirs, matched, weights))
        except Unanswerable as error:
            unanswered.append((metric.name, str(error)))
    reason = _no_overlap(a, b, ours, theirs)
    if reason is None:
        assert not isinstance(a, Record)
        assert not isinstance(b, Record)
        names = [metric.name for metric in overlaps]
        overlap = measure(a, base=base, metrics=names, weights=weights, reference=b, workers=workers)
        for metric in overlaps:
            try:
                shared.append(_shared(metric, overlap, (ours, theirs), matched[-1], weights))
            except Unanswerable as error:
                unanswered.append((metric.name, str(error)))
    else:
        unanswered += [(metric.name, reason) for metric in overlaps]
    start = start_difference(ours, theirs)
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
    return MetricPairs(metric, metric.defaults, tuple(pairs))


def _folded(found: Sample, point: Point, metric: Metric) -> float:
    return fold(found.cells[point.step], metric.fold, found.used)


def _at(points: Sequence[Point]) -> Places:
    return Places(tuple(Place(step=point.step) for point in points))


def _layers(ours: Record, theirs: Record, last: tuple[Point, Point], weights: Selection) -> list[LayerPair]:
    """Every layer's movement at the last matching checkpoints, the most different first."""
    try:
        before, after = (_by_layer(record, p, weights) for record, p in zip((ours, theirs), last, strict=True))
    except Unanswerable:
        return []
    both = [LayerPair(layer, before[layer], after[layer]) for layer in before if layer in after]
    return sorted(both, key=lambda pair: -pair.contrast)


def _by_layer(record: Record, point: Point, weights: Selection) -> dict[str, float]:
    found = default_sample(load_metrics()[MOVEMENT], record, weights, _at([point]))
    layers: dict[str, list[float]] = {}
    for name, value in found.cells[point.step].items():
        layer = found.used[name].layer
        layers.setdefault("outside layers" if layer is None else f"layer {layer}", []).append(value)
    return {layer: statistics.fmean(values) for layer, values in layers.items()}


def _no_overlap(a: Source, b: Source, ours: Record, theirs: Record) -> str | None:
    """Why the overlap of the updates cannot be told, or None."""
    if any(isinstance(one, Record) or (isinstance(one, str | Path) and Path(one).is_file()) for one in (a, b)):
        return "needs the weights of both runs, and a record holds none; give run directories"
    difference = start_difference(ours, theirs)
    return None if difference is None else str(difference)


def _shared(
    metric: Metric, overlap: Record, records: tuple[Record, Record], last: tuple[Point, Point], weights: Selection
) -> Shared:
    """The overlap of the updates at the last matching checkpoints, beside chance. Raises Unanswerable."""
    found = default_sample(metric, overlap, weights, _at(last[:1]))
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
