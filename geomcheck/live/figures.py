"""What a tracker shows of a snapshot: one number per figure, at the newest checkpoint, under names that stay."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from geomcheck.checkpoints.weights import Layers
from geomcheck.diagnostics import load_metrics
from geomcheck.errors import RecordError
from geomcheck.live.snapshot import Snapshot
from geomcheck.record import Record, Request
from geomcheck.suite import Observed, SoFar, Unanswerable, judge
from geomcheck.suite.folds import fold
from geomcheck.suite.groups import fold_groups
from geomcheck.suite.language.places import At, Place
from geomcheck.suite.sampling import sample

PREFIX = "geom/"


def figures_of(snapshot: Snapshot, requests: Sequence[Request], **others: float) -> dict[str, float]:
    """The figures of `requests`, of each expectation, and `others`, by the names that a tracker shows them under.

    A figure is that of the newest checkpoint; where it is fixed there by definition (alignment of the last checkpoint
    with itself), that of the one before. There is none where it cannot be told.
    """
    shown = {
        **{name: _folded(snapshot.record, request) for name, request in _named(requests).items()},
        **{name: value for entry in snapshot.entries for name, value in _of_expectation(entry, snapshot)},
        **others,
    }
    return {f"{PREFIX}{name}": v for name, v in shown.items() if v is not None and math.isfinite(v)}


def _named(requests: Sequence[Request]) -> dict[str, Request]:
    """Requests by what a tracker calls them: parameters are told where two of one metric differ in nothing else."""
    names: dict[str, Request] = {}
    for request in dict.fromkeys(requests):
        alike = [other.parameters() for other in requests if other.metric == request.metric]
        own = request.parameters()
        telling = [f"{key}={value}" for key, value in own.items() if any(other[key] != value for other in alike)]
        names[f"{request.metric}[{','.join(telling)}]" if telling else request.metric] = request
    return names


def _folded(record: Record, request: Request) -> float | None:
    """The figure of all weights that were measured, folded as the metric is by default.

    None where a weight that moved has no figure.
    """
    metric = load_metrics()[request.metric]
    if not any(of == request for of, _ in record.measured()):
        return None  # fixed by definition everywhere so far
    figures = record.figures(request, metric.stat({}))
    step = max(step for step, _ in figures)
    frozen = record.figures(Request.of(load_metrics()["frozen_share"], {}), "value")
    here = {name: figure.value for (at, name), figure in figures.items() if at == step}
    moved = {name: value for name, value in here.items() if metric.when_unchanged or frozen[step, name].value != 1}
    known = {name: value for name, value in moved.items() if value is not None}
    return fold(known, metric.fold, record.weights) if known and len(known) == len(moved) else None


def _of_expectation(entry: SoFar, snapshot: Snapshot) -> Iterator[tuple[str, float | None]]:
    """The figure of an expectation, the edges of its band, and the reference's figure."""
    expectation, record = entry.due.expectation, snapshot.record
    try:
        judgeable = [replace(question, series=False).judgeable(record) for question in expectation.questions()]
        newest = [point for point in record.points if all(point in points for points in judgeable)][-1:]
        found = [_at(Place(step=point.step), entry, snapshot) for point in newest]
    except (Unanswerable, RecordError):
        return
    for observed, bounds in found:
        low, high = observed.band or bounds or (None, None)
        shown = {"": observed.value, "/low": low, "/high": high, "/reference": observed.reference}
        yield from ((f"{expectation.id}{edge}", value) for edge, value in shown.items())


def _at(place: Place, entry: SoFar, snapshot: Snapshot) -> tuple[Observed, tuple[float | None, float | None] | None]:
    """What was observed at one checkpoint, of the group that is furthest off, and the bounds that hold there.

    Raises Unanswerable where there is no figure, RecordError where it was not measured.
    """
    record, here = snapshot.record, replace(entry.due.expectation, at=At(place, place, single=True))
    if here.condition.own_places is None and not here.condition.series:  # it can be judged at any one checkpoint
        verdict = judge(here, record, snapshot.reference, ended=False)
        if verdict.decisive is None:
            raise Unanswerable(verdict.message)
        return verdict.decisive, verdict.bounds
    decisive = entry.verdict.decisive if entry.verdict else None
    group = decisive.group if decisive else None
    for observed in entry.verdict.observed if entry.verdict else ():
        if (observed.step, observed.group) == (place.step, group):
            return observed, None
    question = replace(here.questions()[0], series=False)
    found = sample(question, record, question.settle(record))
    for step, value in fold_groups(found, here, Layers(record.weights.values())).get(group, {}).items():
        return Observed(step, group, value, None), None
    raise Unanswerable(f"{group or 'the run'} has no figure at {place.text}")
