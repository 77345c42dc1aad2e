"""Compare two runs, metric by metric at matching progress."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from geomcheck.api import measure
from geomcheck.checkpoints import BaseWeights, Run
from geomcheck.comparison.contrast import Comparison, LayerPair, Pair, Row, Shared
from geomcheck.diagnostics import Metric, load_metrics, resolve_rank
from geomcheck.errors import RecordError, UsageError
from geomcheck.record import Point, Record
from geomcheck.record.points import matches, nearest
from geomcheck.sources import Source, records_of
from geomcheck.suite.folds import fold
from geomcheck.suite.language.places import Place, Places
from geomcheck.suite.language.selection import DEFAULT, Selection
from geomcheck.suite.likeness import differences, start_difference
from geomcheck.suite.sampling import Question, Sample, sample
from geomcheck.suite.verdict import Unanswerable

MOVEMENT = "relative_update_norm"
SHARED = ("mask_jaccard", "reference_alignment")

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
    rows, unanswered = [], []
    for metric in load_metrics():
        if not metric.against_reference:
            try:
                rows.append(_row(metric, ours, theirs, matched, weights))
            except (Unanswerable, RecordError) as error:
                unanswered.append((metric.name, str(error)))
    reason = _no_overlap(a, b, ours, theirs)
    shared: tuple[Shared, ...] = ()
    if reason is None:
        overlap = measure(_run(a), base=base, metrics=SHARED, weights=weights, reference=_run(b), workers=workers)
        shared = tuple(_shared(overlap, rows, matched[-1][0], weights, unanswered))
    else:
        unanswered += [(name, reason) for name in SHARED]
    return Comparison(
        a=ours.path,
        b=theirs.path,
        rows=tuple(rows),
        layers=tuple(_layers(ours, theirs, matched[-1], weights)),
        shared=shared,
        unanswered=tuple(unanswered),
        notes=tuple(_notes(ours, theirs)),
    )


def _notes(ours: Record, theirs: Record) -> Iterator[str]:
    difference = start_difference(ours, theirs)
    if difference is not None:
        yield f"{difference}: sizes can be compared, what they changed cannot"


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


def _row(metric: Metric, ours: Record, theirs: Record, matched: Matched, weights: Selection) -> Row:
    params = {parameter.name: parameter.default for parameter in metric.parameters}
    found = [
        _sample(metric, params, record, points, weights)
        for record, points in zip((ours, theirs), zip(*matched, strict=True), strict=True)
    ]
    pairs = [
        Pair(one.step, other.step, one.progress, _folded(found[0], one, metric), _folded(found[1], other, metric))
        for one, other in matched
        if one.step in found[0].cells and other.step in found[1].cells
    ]
    if not pairs:
        raise Unanswerable("it is fixed by definition at every matching checkpoint")
    return Row(metric, params, tuple(pairs))


def _folded(found: Sample, point: Point, metric: Metric) -> float:
    return fold(found.cells[point.step], metric.fold, found.used)


def _sample(
    metric: Metric, params: dict[str, Any], record: Record, points: Sequence[Point], weights: Selection
) -> Sample:
    places = Places(tuple(Place(step=point.step) for point in points))
    question = Question(metric=metric, params=params, weights=weights, at=places)
    try:
        return sample(question, record, question.settle(record))
    except (Unanswerable, RecordError) as error:
        raise Unanswerable(f"{record.run}: {error}") from None


def _layers(ours: Record, theirs: Record, last: tuple[Point, Point], weights: Selection) -> list[LayerPair]:
    """Every layer's movement at the last matching checkpoints, the most different first."""
    metric = load_metrics()[MOVEMENT]
    sides = []
    for record, point in zip((ours, theirs), last, strict=True):
        try:
            found = _sample(metric, {}, record, [point], weights)
        except (Unanswerable, RecordError):
            return []
        by_layer: dict[str, list[float]] = {}
        for name, value in found.cells[point.step].items():
            layer = found.used[name].layer
            by_layer.setdefault("outside layers" if layer is None else f"layer {layer}", []).append(value)
        sides.append({layer: statistics.fmean(values) for layer, values in by_layer.items()})
    both = [LayerPair(layer, sides[0][layer], sides[1][layer]) for layer in sides[0] if layer in sides[1]]
    return sorted(both, key=lambda pair: -abs(math.log(pair.ratio)) if 0 < pair.ratio < math.inf else -math.inf)


def _no_overlap(a: Source, b: Source, ours: Record, theirs: Record) -> str | None:
    """Why the overlap of the updates cannot be told, or None."""
    held = [source for source in (a, b) if isinstance(source, Record) or _is_file(source)]
    if held:
        return "needs the weights of both runs, and a record holds none; give run directories"
    difference = start_difference(ours, theirs)
    return None if difference is None else str(difference)


def _is_file(source: Source) -> bool:
    return isinstance(source, str | Path) and Path(source).is_file()


def _run(source: Source) -> Run | str | Path:
    assert not isinstance(source, Record)
    return source


def _shared(
    overlap: Record, rows: Sequence[Row], last: Point, weights: Selection, unanswered: list[tuple[str, str]]
) -> Iterator[Shared]:
    """The overlap of the updates at the last matching checkpoints, beside chance."""
    for name in SHARED:
        metric = load_metrics()[name]
        params = {parameter.name: parameter.default for parameter in metric.parameters}
        try:
            found = _sample(metric, params, overlap, [last], weights)
        except (Unanswerable, RecordError) as error:
            unanswered.append((name, str(error)))
            continue
        value = fold(found.cells[last.step], metric.fold, found.used)
        chance = _chance_of_alignment(found, params) if "k" in params else _chance_of_masks(rows)
        yield Shared(metric, last.step, value, chance)


def _chance_of_alignment(found: Sample, params: dict[str, Any]) -> float:
    """The mean of K / in."""
    return statistics.fmean(resolve_rank(params["k"], w.shape) / w.shape[1] for w in found.used.values())


def _chance_of_masks(rows: Sequence[Row]) -> float:
    """``p q / (p + q - p q)`` for the densities p, q of the two masks; 0 where they are not known."""
    for row in rows:
        if row.metric.name == "update_support":
            p, q = row.pairs[-1].ours, row.pairs[-1].theirs
            return p * q / (p + q - p * q) if p + q else 0.0
    return 0.0
