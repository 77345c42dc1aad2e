"""What is measured of a training: which figures of which weights, known before the first step."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from geomcheck.checkpoints import Weight
from geomcheck.diagnostics import Metric, load_metrics
from geomcheck.errors import UsageError
from geomcheck.measurement.execute import beside
from geomcheck.record import Record, Request
from geomcheck.suite import Expectation, Suite, Unanswerable, load_suite
from geomcheck.suite.language.names import metric_hint
from geomcheck.suite.language.quantities import Refusal
from geomcheck.suite.language.selection import DEFAULT, Selection, parse_selection
from geomcheck.suite.sampling import Question, has_figure

DEFAULT_METRICS = ("update_sparsity", "relative_update_norm", "stable_rank", "subspace_alignment")
"""What is measured where neither metrics nor a suite say so: none of these factorizes W0."""

GOLDEN = (5**0.5 - 1) / 2

WeightsOption = str | Mapping[str, Any] | Selection | None

WeightPlan = Mapping[str, frozenset[Request]]
"""What is asked of each weight, in the order in which they are measured."""


@dataclass(frozen=True)
class Wanted:
    """What a training is to be observed for: `requests` of `weights`, and besides what the suite asks."""

    requests: tuple[Request, ...]
    weights: Selection
    suite: Suite | None

    @classmethod
    def of(
        cls, suite: str | Path | Suite | None, metrics: Sequence[str | Request] | None, weights: WeightsOption
    ) -> Wanted:
        """What a user asked for.

        Raises:
            UsageError: there is no such metric, suite or set of weights, or a training cannot answer what is asked.
            SuiteError: the suite is invalid.
        """
        loaded = load_suite(suite) if isinstance(suite, str | Path) else suite
        if metrics is None:
            metrics = DEFAULT_METRICS if loaded is None else ()
        for expectation in loaded.expectations if loaded else ():
            _require_answerable(expectation)
        return cls(_requests(metrics), _selection(weights), loaded)


def plan(record: Record, wanted: Wanted) -> WeightPlan:
    """What to measure of each weight of `record` (from `survey`), whatever checkpoints there will be.

    Raises:
        UsageError: nothing can be measured, or an expectation can never be judged.
    """
    metrics = load_metrics()
    found: dict[str, set[Request]] = {}
    for weight in _selected(record, wanted.weights, "weights") if wanted.requests else ():
        fit = {r for r in wanted.requests if has_figure(metrics[r.metric], r.parameters(), weight)}
        if fit and weight.name not in record.skipped:
            found.setdefault(weight.name, set()).update(fit)
    for expectation in wanted.suite.expectations if wanted.suite else ():
        for question in expectation.questions():
            for weight in _asked(record, question, _named(expectation)):
                _require_measurable(record, question.metric, question.request, weight, expectation)
                found.setdefault(weight.name, set()).add(question.request)
    if not found:
        raise UsageError("nothing to watch: no weight matrix of the model can be compared with W0")
    order = spread([record.weights[name] for name in found])
    return {name: frozenset(found[name] | beside(found[name], metrics)) for name in order}


def spread(weights: Iterable[Weight]) -> list[str]:
    """The names of weights in an order of which the first few, however few, are spread over modules and layers."""
    by_module: dict[tuple[str, str], list[str]] = {}
    for weight in sorted(weights, key=lambda w: (w.stack, w.layer if w.layer is not None else -1, w.name)):
        by_module.setdefault((weight.stack, weight.module), []).append(weight.name)
    queues = [_scattered(names, number) for number, names in enumerate(by_module.values())]
    return [name for turn in zip_longest(*queues) for name in turn if name is not None]


def signature(asked: WeightPlan) -> str:
    """A digest of what is asked, to tell whether a resumed training asks the same."""
    plain = {name: sorted([request.metric, request.params] for request in asked[name]) for name in sorted(asked)}
    return hashlib.blake2b(json.dumps(plain).encode(), digest_size=16).hexdigest()


def _scattered(names: Sequence[str], number: int) -> list[str]:
    """`names` so that the first few leave no large gap, and are others for each `number`: by multiples of the golden
    ratio, modulo 1."""
    return [names[i] for i in sorted(range(len(names)), key=lambda i: (i * GOLDEN + number / 7) % 1)]


def _requests(metrics: Sequence[str | Request]) -> tuple[Request, ...]:
    known, found = load_metrics(), []
    for metric in [metrics] if isinstance(metrics, str) else metrics:
        name = metric if isinstance(metric, str) else metric.metric
        if name not in known:
            raise UsageError(f"no metric is called {name!r}{metric_hint(name)}")
        found.append(Request.of(known[metric], {}) if isinstance(metric, str) else metric)
        _require_possible(known[name], found[-1], "metrics")
    return tuple(dict.fromkeys(found))


def _selection(weights: WeightsOption) -> Selection:
    if weights is None or isinstance(weights, Selection):
        return weights or DEFAULT
    try:
        return parse_selection(weights)
    except Refusal as refusal:
        raise UsageError(f"weights: {refusal}") from refusal


def _selected(record: Record, weights: Selection, where: str) -> list[Weight]:
    try:
        return weights.select(record.weights)
    except Unanswerable as error:
        raise UsageError(f"{where}: {error}") from error


def _asked(record: Record, question: Question, where: str) -> list[Weight]:
    try:
        return question.chosen(record)
    except Unanswerable as error:
        raise UsageError(f"{where}: {error}") from error


def _require_answerable(expectation: Expectation) -> None:
    """Refuse an expectation that a training cannot answer."""
    questions = expectation.questions()
    if not questions:
        raise UsageError(
            f"{_named(expectation)}: {expectation.metric} is about scores and constraints in saved checkpoints, "
            "which a training does not read; check those for it"
        )
    for question in questions:
        _require_possible(question.metric, question.request, _named(expectation))


def _require_possible(metric: Metric, request: Request, where: str) -> None:
    """Refuse a figure that needs weights which a training does not keep: those of the past, or of another run."""
    params = request.parameters()
    if metric.needs_reference(params):
        raise UsageError(
            f"{where}: {metric.name} needs the weights of a reference run, which a training does not read; check the "
            "saved checkpoints for it"
        )
    if metric.of_path:
        raise UsageError(
            f"{where}: {metric.name} needs the weights of other checkpoints again, and a training keeps none of them; "
            "check the saved checkpoints for it"
        )
    if metric.across and metric.trivial_at is None and "last" in metric.places(params).values():
        raise UsageError(
            f"{where}: {metric.name} at the last checkpoint's channel needs the weights of every earlier checkpoint "
            "again, and a training keeps their channels only; compare with `first` or `previous`, or check the saved "
            "checkpoints for it"
        )


def _require_measurable(
    record: Record, metric: Metric, request: Request, weight: Weight, expectation: Expectation
) -> None:
    reason = record.skipped.get(weight.name)
    if reason is None and (spanned := metric.spanned(request.parameters(), weight.shape)):
        reason = ", ".join(f"{name} = {k} spans the whole of it" for name, k in spanned.items())
    if reason is not None:
        raise UsageError(f"{_named(expectation)}: {weight.name} cannot be measured: {reason}; exclude such weights")


def _named(expectation: Expectation) -> str:
    return f"{expectation.position.path}:{expectation.position.line}: `{expectation.id}`"
