"""The judgement: fold the figures, hold them against the condition, say what was found."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from geomcheck.errors import RecordError
from geomcheck.measurement.record import Record
from geomcheck.suite import wording
from geomcheck.suite.comparison import Companion, companion_of
from geomcheck.suite.conditions import Band, Like, Regime, Trend
from geomcheck.suite.expectation import Expectation
from geomcheck.suite.folds import fold
from geomcheck.suite.groups import Groups, fold_groups, gaps
from geomcheck.suite.regimes import EVIDENCE, classify
from geomcheck.suite.sampling import Sample, counts, rounding_warning, sample
from geomcheck.suite.verdict import Counts, Observed, Outcome, Unanswerable, Verdict, Worst

WORST = 5
UNKNOWN = Counts()

_VIOLATED: dict[str, Outcome] = {"error": "failed", "warn": "warned", "info": "info"}

BandOf = Callable[[int, str | None], Band]


@dataclass(frozen=True)
class Finding:
    """What a judgement rests on. `observed` is by group, then by step."""

    holds: bool
    message: str
    observed: tuple[Observed, ...]
    worst: tuple[Worst, ...] = ()
    warnings: tuple[str, ...] = ()


def judge(expectation: Expectation, record: Record, reference: Record | None = None) -> Verdict:
    """Judge `record` by `expectation`; what cannot be judged gets the outcome ``error``."""
    tally = counts(expectation.questions()[0], record)
    try:
        if isinstance(expectation.condition, Regime):
            finding = _regime(expectation, expectation.condition, record)
        else:
            finding = _figure(expectation, record, reference)
    except (Unanswerable, RecordError) as error:
        return unmeasured(expectation, str(error), tally)
    outcome: Outcome = "passed" if finding.holds else _VIOLATED[expectation.level]
    return _verdict(expectation, finding, outcome, tally)


def unmeasured(expectation: Expectation, reason: str, tally: Counts = UNKNOWN) -> Verdict:
    """The verdict with the outcome ``error``, for `reason`."""
    finding = Finding(False, f"{expectation.metric} could not be judged: {reason}", ())
    return _verdict(expectation, finding, "error", tally)


def _verdict(expectation: Expectation, finding: Finding, outcome: Outcome, tally: Counts) -> Verdict:
    declaration = expectation.declaration
    return Verdict(
        id=expectation.id,
        metric=expectation.metric,
        params=expectation.params,
        condition=expectation.condition.text,
        at=expectation.at.text,
        per=expectation.per,
        fold=expectation.fold,
        level=expectation.level,
        outcome=outcome,
        message=finding.message,
        position=expectation.position,
        observed=finding.observed,
        worst=finding.worst,
        counts=tally,
        why=expectation.why,
        unit=declaration.unit.value if declaration else "decades",
        bounds=_bounds(expectation),
        warnings=finding.warnings,
    )


def _bounds(expectation: Expectation) -> tuple[float | None, float | None] | None:
    condition = expectation.condition
    if not isinstance(condition, Band):
        return None
    low, high = condition.low, condition.high
    return low if math.isfinite(low) else None, high if math.isfinite(high) else None


def _figure(expectation: Expectation, record: Record, reference: Record | None) -> Finding:
    (question,) = expectation.questions()
    found = sample(question, record, question.settle(record))
    groups = fold_groups(found, expectation)
    warnings = (*rounding_warning(question, record, found), *gaps(groups, found, expectation))
    condition = expectation.condition
    if isinstance(condition, Trend):
        finding = _trend(expectation, condition, found, groups)
    elif isinstance(condition, Like):
        if reference is None:
            raise Unanswerable("`like: reference` needs a reference run; give one with --geom-reference=PATH")
        companion = companion_of(expectation, question, record, reference, found)
        warnings = (*warnings, *companion.warnings)
        finding = _like(expectation, condition, found, groups, companion)
    else:
        assert isinstance(condition, Band)
        finding = _band(expectation, condition, found, groups)
    return Finding(finding.holds, finding.message, finding.observed, finding.worst, warnings)


def _band(expectation: Expectation, band: Band, found: Sample, groups: Groups) -> Finding:
    observed = _observe(groups, lambda _step, _group: band)
    extreme = _extreme(observed, lambda o: band.violation(_value(o)))
    worst = _rank(found.cells[extreme.step], extreme.step, lambda _name, value: band.violation(value))
    holds = wording.within_allowance(observed, expectation.allow)
    message = wording.band(expectation, observed, extreme, band, len(found.used))
    return Finding(holds, message, observed, worst)


def _like(expectation: Expectation, condition: Like, found: Sample, groups: Groups, companion: Companion) -> Finding:
    def band_of(step: int, group: str | None) -> Band:
        try:
            return condition.around(companion.groups[group][companion.matched[step].step])
        except KeyError:
            at = companion.matched[step].step
            raise Unanswerable(f"the reference has no figure of {group or 'the run'} at step {at}") from None

    def weight_violation(name: str, value: float) -> float:
        other = companion.cells[companion.matched[extreme.step].step].get(name)
        return -math.inf if other is None else condition.around(other).violation(value)

    observed = _observe(groups, band_of)
    extreme = _extreme(observed, lambda o: band_of(o.step, o.group).violation(_value(o)))
    worst = _rank(found.cells[extreme.step], extreme.step, weight_violation)
    holds = wording.within_allowance(observed, expectation.allow)
    match = companion.matched[extreme.step]
    theirs = companion.groups[extreme.group][match.step]
    message = wording.like(expectation, observed, extreme, theirs, match, len(found.used))
    return Finding(holds, message, observed, worst)


def _trend(expectation: Expectation, trend: Trend, found: Sample, groups: Groups) -> Finding:
    observed: list[Observed] = []
    for label, series in groups.items():
        if len(series) < 2:
            raise Unanswerable(
                f"{label or 'the run'} has a figure at only one judged checkpoint (step {next(iter(series))}), "
                "because it had not changed before: a trend needs two"
            )
        marks = trend.judge(list(series.values()))
        observed += [
            Observed(step, label, value, holds) for (step, value), holds in zip(series.items(), marks, strict=True)
        ]
    label = max(groups, key=lambda group: trend.violation(list(groups[group].values())))
    broken = [o for o in observed if o.group == label and not o.holds]
    extreme = broken[0] if broken else next(o for o in reversed(observed) if o.group == label)
    own = {name: [values[name] for values in found.cells.values() if name in values] for name in found.used}
    worst = _rank(
        found.cells[extreme.step],
        extreme.step,
        lambda name, _value: trend.violation(own[name]) if len(own[name]) > 1 else -math.inf,
    )
    result = tuple(observed)
    holds = wording.within_allowance(result, expectation.allow)
    message = wording.trend(expectation, result, extreme, trend, len(found.used))
    return Finding(holds, message, result, worst)


def _regime(expectation: Expectation, condition: Regime, record: Record) -> Finding:
    figures: dict[int, dict[str, float]] = {}
    for question, evidence in zip(expectation.questions(), EVIDENCE, strict=True):
        found = sample(question, record, question.settle(record))
        for step, values in found.cells.items():
            folded = fold(values, evidence.fold, found.used)
            figures.setdefault(step, {})[evidence.metric] = folded
    classified = {step: classify(by_metric) for step, by_metric in figures.items()}
    observed = tuple(
        Observed(step, None, result.distances[condition.name], result.name == condition.name)
        for step, result in classified.items()
    )
    wrong = [o for o in observed if not o.holds]
    shown = wrong[0].step if wrong else observed[-1].step
    verb = "expected" if wrong else "is"
    message = f"regime {verb} {condition.name}; at step {shown}: {classified[shown].describe()}"
    return Finding(not wrong, message, observed)


def _observe(groups: Groups, band_of: BandOf) -> tuple[Observed, ...]:
    return tuple(
        Observed(step, label, value, band_of(step, label).holds(value))
        for label, series in groups.items()
        for step, value in series.items()
    )


def _extreme(observed: tuple[Observed, ...], violation: Callable[[Observed], float]) -> Observed:
    return max(observed, key=violation)


def _rank(values: Mapping[str, float], step: int, violation: Callable[[str, float], float]) -> tuple[Worst, ...]:
    ordered = sorted(values, key=lambda name: (-violation(name, values[name]), name))
    return tuple(Worst(step, name, values[name]) for name in ordered[:WORST])


def _value(observed: Observed) -> float:
    return math.nan if observed.value is None else observed.value
