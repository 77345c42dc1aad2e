"""An expectation per metric that one of the committed runs keeps, with what it comes to on all three.

Nothing here is a figure that somebody wrote down: the runs are measured, and the band is put around what the distilled
run shows.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import geomcheck
from geomcheck.diagnostics import Metric, Unit, load_metrics
from geomcheck.record import Record
from geomcheck.suite import Suite, Verdict

RUNS = {"opd": "tiny-opd", "sft": "tiny-sft", "rlvr": "tiny-rlvr"}
"""The committed runs by method; the first is the one that examples are made for."""

MODEL = RUNS["opd"]
_REFERENCES = {"tiny-opd": "tiny-rlvr", "tiny-sft": "tiny-opd", "tiny-rlvr": "tiny-opd"}
_SHARE = "12.5%"
"""A rank for matrices that are too small for the metric's default."""

MARGIN = 0.25
"""How far the band reaches beyond what the run shows, relative to its figures."""

_ANY = {"trend": "flat", "tolerance": "100%"}
"""A condition to see figures by, whatever they are."""


@dataclass(frozen=True)
class Example:
    """A metric's expectation and what became of it.

    Attributes:
        text: the expectation, as a suite holds it.
        verdicts: by run.
        records: by run, for progress and origin.
    """

    metric: Metric
    text: str
    verdicts: Mapping[str, Verdict]
    records: Mapping[str, Record]

    def trajectory(self, run: str) -> list[tuple[float, float, bool]]:
        """(percent of training, figure, whether it violates the expectation) by checkpoint."""
        progress = {point.step: 100 * point.progress for point in self.records[run].points}
        seen = self.verdicts[run].observed
        return [(progress[o.step], o.value, o.holds is False) for o in seen if o.value is not None]


def examples(fixtures: Path) -> dict[str, Example]:
    """An example for every metric, measured on the runs in `fixtures`."""
    metrics = list(load_metrics())
    draft = _suite([_statement(metric, _ANY) for metric in metrics])
    records = {
        run: geomcheck.measure(fixtures / run, suites=[draft], reference=fixtures / _REFERENCES[run])
        for run in RUNS.values()
    }
    seen = {verdict.metric: verdict for verdict in draft.evaluate(records[MODEL])}
    texts = [_statement(metric, _condition(metric, seen[metric.name])) for metric in metrics]
    judged = {run: _suite(texts).evaluate(record) for run, record in records.items()}
    return {
        metric.name: Example(metric, text, {run: verdicts[index] for run, verdicts in judged.items()}, records)
        for index, (metric, text) in enumerate(zip(metrics, texts, strict=True))
    }


def suite_text(statements: Sequence[str]) -> str:
    """A suite of `statements`."""
    return "\n".join(["geomcheck: 1", "name: example", "expect:", *statements])


def _suite(statements: Sequence[str]) -> Suite:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "example.yaml"
        path.write_text(suite_text(statements))
        return geomcheck.load_suite(path)


def _statement(metric: Metric, condition: Mapping[str, str]) -> str:
    ranks = [p for p in metric.parameters if p.kind == "rank"]
    given = {p.name: str(p.usual) for p in metric.parameters if p.required}
    lines = {"metric": metric.name, **{p.name: _rank(p.default) for p in ranks}, **given, **condition}
    return "\n    ".join([f"  - id: {metric.name.replace('_', '-')}", *(f"{k}: {v}" for k, v in lines.items())])


def _rank(default: int | str) -> str:
    """The default, where the runs' matrices (from 32 by 64) leave room beside it."""
    return str(default) if isinstance(default, str) or default < 32 else _SHARE


def _condition(metric: Metric, seen: Verdict) -> dict[str, str]:
    """A band around the figures that a run showed, open where the metric's own range ends."""
    values = [entry.value for entry in seen.observed if entry.value is not None]
    low, high = min(values), max(values)
    low, high = _rounded(low - MARGIN * abs(low), down=True), _rounded(high + MARGIN * abs(high), down=False)
    if high == 0:
        return {"below": _written(0.01, metric.unit, percent=metric.unit is Unit.FRACTION)}
    percent = metric.unit is Unit.FRACTION and abs(low) >= 1e-3
    first, second = (_written(bound, metric.unit, percent=percent) for bound in (low, high))
    reaches_the_end = metric.high is not None and high >= metric.high
    return {"above": first} if reaches_the_end else {"within": f"[{first}, {second}]"}


def _rounded(value: float, *, down: bool) -> float:
    """`value` to two significant digits, rounded away from the figures."""
    if value == 0:
        return 0.0
    unit = 10.0 ** (math.floor(math.log10(abs(value))) - 1)
    return (math.floor if down else math.ceil)(value / unit) * unit


def _written(value: float, unit: Unit, *, percent: bool) -> str:
    if percent:
        return f"{100 * value:.3g}%"
    return f"{value:.3g} deg" if unit is Unit.DEGREES else f"{value:.3g}"
