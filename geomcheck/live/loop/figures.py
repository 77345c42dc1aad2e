"""What a tracker shows of an observation: one number per figure, under names that stay."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from geomcheck.diagnostics import load_metrics
from geomcheck.record import Record, Request
from geomcheck.suite import Verdict
from geomcheck.suite.conditions.band import Band
from geomcheck.suite.due import SoFar
from geomcheck.suite.expectation import Expectation
from geomcheck.suite.folds import fold
from geomcheck.suite.judge import judge
from geomcheck.suite.language.places import At, Place
from geomcheck.suite.verdict import Observed

PREFIX = "geom/"

Figures = Mapping[str, float]


def of_requests(record: Record, requests: Sequence[Request]) -> dict[str, float]:
    """Each request folded over the watched weights, as its metric is by default.

    It is that of the newest checkpoint; where that one is fixed by definition (alignment of the last checkpoint with
    itself), that of the one before. There is none where a changed weight has no figure.
    """
    folded = {name: _folded(record, request) for name, request in _named(requests).items()}
    return {name: value for name, value in folded.items() if value is not None}


def of_expectations(record: Record, judged: Iterable[SoFar], reference: Record | None) -> dict[str, float]:
    """The figure of each expectation, and the edges of its band where it has one."""
    found: dict[str, float] = {}
    for so_far in judged:
        shown = _shown(so_far, record, reference)
        if shown is None:
            continue
        verdict, observed = shown
        low, high = observed.band or verdict.bounds or (None, None)
        edges = {"": observed.value, "/low": low, "/high": high, "/reference": observed.reference}
        known = {edge: value for edge, value in edges.items() if value is not None and math.isfinite(value)}
        found |= {f"{PREFIX}{verdict.id}{edge}": value for edge, value in known.items()}
    return found


def _named(requests: Sequence[Request]) -> dict[str, Request]:
    """Requests by what a tracker calls them: parameters are told where two of one metric differ in nothing else."""
    names: dict[str, Request] = {}
    for request in dict.fromkeys(requests):
        alike = [other.parameters() for other in dict.fromkeys(requests) if other.metric == request.metric]
        own = request.parameters()
        telling = [f"{key}={value}" for key, value in own.items() if any(other[key] != value for other in alike)]
        suffix = f"[{','.join(telling)}]" if telling else ""
        names[f"{PREFIX}{request.metric}{suffix}"] = request
    return names


def _folded(record: Record, request: Request) -> float | None:
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


def _shown(so_far: SoFar, record: Record, reference: Record | None) -> tuple[Verdict, Observed] | None:
    """The verdict that a tracker shows a point of: at the newest checkpoint where there is a figure there."""
    expectation = so_far.due.expectation
    here = _at_newest(expectation, record)
    newest = judge(here, record, reference, ended=False) if _is_band(expectation) else None
    for verdict in (newest, so_far.verdict):
        if verdict is not None and verdict.decisive is not None:
            return verdict, verdict.decisive
    return None


def _is_band(expectation: Expectation) -> bool:
    return isinstance(expectation.condition, Band)


def _at_newest(expectation: Expectation, record: Record) -> Expectation:
    here = Place(step=record.points[-1].step)
    return replace(expectation, at=At(here, here, single=True))
