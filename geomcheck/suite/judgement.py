"""The judgement: fold the figures, hold them against the condition, say what was found."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from geomcheck.errors import RecordError
from geomcheck.measurement.record import Record
from geomcheck.suite import wording
from geomcheck.suite.bands import Band, Bands, Offence
from geomcheck.suite.comparison import Companion, companion_of
from geomcheck.suite.conditions import Condition, Like, Regime, Trend
from geomcheck.suite.expectation import Expectation
from geomcheck.suite.folds import fold
from geomcheck.suite.groups import Groups, fold_groups, gaps
from geomcheck.suite.regimes import EVIDENCE, classify
from geomcheck.suite.sampling import Question, Sample, counts, rounding_warning, sample
from geomcheck.suite.verdict import Counts, Observed, Outcome, Unanswerable, Verdict, Worst

WORST = 5
UNKNOWN = Counts()
NO_OFFENCE: Offence = (False, -math.inf)

_VIOLATED: dict[str, Outcome] = {"error": "failed", "warn": "warned", "info": "info"}


@dataclass(frozen=True)
class Finding:
    """What a judgement rests on. `observed` is by group, then by step; `decisive` is one of them."""

    holds: bool
    message: str
    observed: tuple[Observed, ...] = ()
    decisive: Observed | None = None
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
    finding = Finding(False, f"cannot judge {expectation.metric}: {reason}")
    return _verdict(expectation, finding, "error", tally)


def _verdict(expectation: Expectation, finding: Finding, outcome: Outcome, tally: Counts) -> Verdict:
    declaration = expectation.declaration
    condition = expectation.condition
    return Verdict(
        id=expectation.id,
        metric=expectation.metric,
        params=expectation.params,
        condition=condition.text,
        at=expectation.at.text,
        per=expectation.per,
        fold=expectation.fold,
        level=expectation.level,
        allow=expectation.allow,
        outcome=outcome,
        message=finding.message,
        position=expectation.position,
        observed=finding.observed,
        decisive=finding.decisive,
        worst=finding.worst,
        counts=tally,
        why=expectation.why,
        unit=declaration.unit.value if declaration else "decades",
        percent=not isinstance(condition, Regime) and condition.scale.percent,
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
    _require_doubt(condition, question, found)
    if isinstance(condition, Trend):
        finding = _trend(expectation, condition, found, groups)
    elif isinstance(condition, Like):
        if reference is None:
            raise Unanswerable("`like: reference` needs a reference run; give one with --geom-reference=PATH")
        companion = companion_of(expectation, question, record, reference, found)
        warnings = (*warnings, *companion.warnings)
        finding = _like(expectation, condition, found, groups, companion)
    elif isinstance(condition, Bands):
        finding = _bands(expectation, condition, record, found, groups)
    else:
        assert isinstance(condition, Band)
        finding = _band(expectation, condition, found, groups)
    return replace(finding, warnings=warnings)


def _require_doubt(condition: Condition, question: Question, found: Sample) -> None:
    """Raise Unanswerable where the condition holds, or fails, whatever a weight of these shapes does."""
    if not question.metric.at_most_rank or not isinstance(condition, Band | Bands):
        return
    low, _ = question.metric.range(question.params)
    fault = condition.fault(low, max(min(weight.shape) for weight in found.used.values()))
    if fault:
        raise Unanswerable(f"`{condition.text}` {fault}, the smaller dimension of the weights")


def _band(expectation: Expectation, band: Band, found: Sample, groups: Groups) -> Finding:
    observed = tuple(Observed(step, group, value, band.holds(value)) for step, group, value in _figures(groups))
    extreme = max(observed, key=lambda o: band.offence(_value(o)))
    worst = _rank(found.cells[extreme.step], extreme.step, lambda _name, value: band.offence(value))
    holds = wording.within_allowance(observed, expectation.allow)
    message = wording.band(expectation, observed, extreme, band, len(found.used))
    return Finding(holds, message, observed, extreme, worst)


def _bands(expectation: Expectation, bands: Bands, record: Record, found: Sample, groups: Groups) -> Finding:
    by_step = bands.by_step(record.points)
    fixed = sorted(by_step.keys() - found.cells.keys())
    if fixed:
        raise Unanswerable(f"{expectation.metric} has no figure at step {fixed[0]}: it is fixed there; remove its band")
    observed = tuple(
        Observed(step, group, value, by_step[step].holds(value), band=(by_step[step].low, by_step[step].high))
        for step, group, value in _figures(groups)
    )
    extreme = max(observed, key=lambda o: by_step[o.step].relative_offence(_value(o)))
    band = by_step[extreme.step]
    worst = _rank(found.cells[extreme.step], extreme.step, lambda _name, value: band.offence(value))
    message = wording.bands(expectation, observed, extreme, band, len(found.used))
    return Finding(wording.within_allowance(observed, expectation.allow), message, observed, extreme, worst)


def _like(expectation: Expectation, condition: Like, found: Sample, groups: Groups, companion: Companion) -> Finding:
    def observe(step: int, group: str | None, value: float) -> Observed:
        theirs = companion.figure(step, group)
        return Observed(step, group, value, condition.around(theirs).holds(value), theirs)

    def offence(observed: Observed) -> Offence:
        return condition.around(_reference(observed)).offence(_value(observed))

    def weight_offence(name: str, value: float) -> Offence:
        other = companion.cells[companion.matched[extreme.step].step].get(name)
        return NO_OFFENCE if other is None else condition.around(other).offence(value)

    observed = tuple(observe(step, group, value) for step, group, value in _figures(groups))
    extreme = max(observed, key=offence)
    worst = _rank(found.cells[extreme.step], extreme.step, weight_offence)
    holds = wording.within_allowance(observed, expectation.allow)
    match = companion.matched[extreme.step]
    message = wording.like(expectation, observed, extreme, _reference(extreme), match, len(found.used))
    return Finding(holds, message, observed, extreme, worst)


def _trend(expectation: Expectation, trend: Trend, found: Sample, groups: Groups) -> Finding:
    by_group: dict[str | None, list[Observed]] = {}
    for label, series in groups.items():
        if len(series) < 2:
            raise Unanswerable(
                f"{label or 'the run'} has a figure at only one judged checkpoint (step {next(iter(series))}), "
                "because it had not changed before: a trend needs two"
            )
        marks = trend.judge(list(series.values()))
        by_group[label] = [
            Observed(step, label, value, holds) for (step, value), holds in zip(series.items(), marks, strict=True)
        ]
    observed = tuple(o for series in by_group.values() for o in series)
    label = max(groups, key=lambda group: trend.offence(list(groups[group].values())))
    extreme = by_group[label][trend.decisive(list(groups[label].values()))]
    own = {name: [values[name] for values in found.cells.values() if name in values] for name in found.used}
    worst = _rank(
        found.cells[extreme.step],
        extreme.step,
        lambda name, _value: trend.offence(own[name]) if len(own[name]) > 1 else NO_OFFENCE,
    )
    holds = wording.within_allowance(observed, expectation.allow)
    message = wording.trend(expectation, observed, extreme, trend, len(found.used))
    return Finding(holds, message, observed, extreme, worst)


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
    extreme = max(observed, key=lambda o: (not o.holds, _value(o)))
    verb = "is" if extreme.holds else "expected"
    message = f"regime {verb} {condition.name}; at step {extreme.step}: {classified[extreme.step].describe()}"
    return Finding(all(o.holds for o in observed), message, observed, extreme)


def _figures(groups: Groups) -> Iterator[tuple[int, str | None, float]]:
    for group, series in groups.items():
        for step, value in series.items():
            yield step, group, value


def _rank(values: Mapping[str, float], step: int, offence: Callable[[str, float], Offence]) -> tuple[Worst, ...]:
    """The weights on the wrong side, the furthest first; where there are none, those closest to it."""
    offences = {name: offence(name, values[name]) for name in sorted(values)}
    ordered = sorted(offences, key=lambda name: offences[name], reverse=True)
    wrong = [name for name in ordered if offences[name][0]]
    return tuple(Worst(step, name, values[name]) for name in (wrong or ordered)[:WORST])


def _value(observed: Observed) -> float:
    return math.nan if observed.value is None else observed.value


def _reference(observed: Observed) -> float:
    return math.nan if observed.reference is None else observed.reference
