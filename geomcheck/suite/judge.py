"""The judgement: fold the figures, hold them against the condition, say what was found."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from geomcheck.errors import RecordError
from geomcheck.record.points import early_end
from geomcheck.record.record import Record
from geomcheck.suite import wording
from geomcheck.suite.conditions.band import Band, Bands, Offence
from geomcheck.suite.conditions.companion import Companion, companion_of
from geomcheck.suite.conditions.evidence import evidence_figures
from geomcheck.suite.conditions.kinds import Condition, Like, Regime, Trend
from geomcheck.suite.conditions.profile import classify
from geomcheck.suite.conditions.sufficiency import Sufficiency, compare
from geomcheck.suite.expectation import Expectation
from geomcheck.suite.groups import Groups, fold_groups, gaps
from geomcheck.suite.language.places import ALL, LAST, At
from geomcheck.suite.sampling import Question, Sample, counts, fused_warning, rounding_warning, sample
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


def judge(expectation: Expectation, record: Record, reference: Record | None = None, *, ended: bool = True) -> Verdict:
    """Judge `record` by `expectation`; what cannot be judged gets the outcome ``error``.

    `ended` says that no checkpoint will follow: a last one that is not the end of the training is then worth a warning.
    """
    tally = next((counts(question, record) for question in expectation.questions()), UNKNOWN)
    try:
        if isinstance(expectation.condition, Regime):
            finding = _regime(expectation, expectation.condition, record)
        elif isinstance(expectation.condition, Sufficiency):
            finding = _sufficiency(expectation, expectation.condition, record, reference)
        else:
            finding = _figure(expectation, record, reference)
    except (Unanswerable, RecordError) as error:
        return unmeasured(expectation, str(error), tally)
    if ended:
        finding = replace(finding, warnings=(*_end_warning(expectation, record), *finding.warnings))
    outcome: Outcome = "passed" if finding.holds else _VIOLATED[expectation.level]
    return _verdict(expectation, finding, outcome, tally)


def unmeasured(
    expectation: Expectation, reason: str, tally: Counts = UNKNOWN, *, outcome: Outcome = "error"
) -> Verdict:
    """The verdict on what could not be judged, for `reason`; it has no observed figures."""
    finding = Finding(False, f"cannot judge {expectation.metric}: {reason}")
    return _verdict(expectation, finding, outcome, tally)


def _verdict(expectation: Expectation, finding: Finding, outcome: Outcome, tally: Counts) -> Verdict:
    condition = expectation.condition
    return Verdict(
        id=expectation.id,
        metric=expectation.metric,
        params=expectation.params,
        condition=condition.text,
        at=expectation.at.text,
        per=expectation.per,
        fold="" if isinstance(condition, Sufficiency) else expectation.fold,
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
        unit=_unit(expectation),
        percent=not isinstance(condition, Regime) and condition.scale.percent,
        bounds=_bounds(expectation),
        warnings=finding.warnings,
    )


def _unit(expectation: Expectation) -> str:
    if isinstance(expectation.condition, Sufficiency):
        return expectation.condition.scale.unit.value
    declaration = expectation.declaration
    return declaration.unit.value if declaration else "decades"


def _bounds(expectation: Expectation) -> tuple[float | None, float | None] | None:
    condition = expectation.condition
    if isinstance(condition, Sufficiency):
        condition = condition.band
    if not isinstance(condition, Band):
        return None
    low, high = condition.low, condition.high
    return low if math.isfinite(low) else None, high if math.isfinite(high) else None


def _figure(expectation: Expectation, record: Record, reference: Record | None) -> Finding:
    (question,) = expectation.questions()
    found = sample(question, record, question.settle(record))
    _require_storage(expectation, found)
    groups = fold_groups(found, expectation)
    warnings = (
        *rounding_warning(question, record, found),
        *fused_warning(found.used.values()),
        *gaps(groups, found, expectation),
    )
    condition = expectation.condition
    _require_doubt(condition, question, found)
    if isinstance(condition, Trend):
        finding = _trend(expectation, condition, found, groups)
    elif isinstance(condition, Like):
        if reference is None:
            key = "unlike" if condition.unlike else "like"
            raise Unanswerable(f"`{key}: reference` needs a reference run; give one with --geom-reference=PATH")
        companion = companion_of(expectation, question, record, reference, found)
        warnings = (*warnings, *companion.warnings)
        finding = _like(expectation, condition, found, groups, companion)
    elif isinstance(condition, Bands):
        finding = _bands(expectation, condition, record, found, groups)
    else:
        assert isinstance(condition, Band)
        finding = _band(expectation, condition, found, groups)
    return replace(finding, warnings=warnings)


def _end_warning(expectation: Expectation, record: Record) -> tuple[str, ...]:
    """A sentence where the last checkpoint, which the expectation names, is not the end of the training."""
    end = early_end(record.points)
    span = expectation.at if isinstance(expectation.at, At) and expectation.at != ALL else None
    if not end:
        return ()
    if (span and span.stop == LAST) or any(LAST in q.partners.values() for q in expectation.questions()):
        return (f"`last` is not the end of the training: the run ended at {end}",)
    if span and span.stop.is_beyond(record.points):
        return (f"`at` is judged up to there alone: the run ended at {end}",)
    return ()


def _require_storage(expectation: Expectation, found: Sample) -> None:
    """Raise Unanswerable where the suite is for other storage formats."""
    for name, weight in found.used.items():
        if expectation.storage and weight.dtypes != expectation.storage:
            raise Unanswerable(
                f"{name} is stored as {', '.join(weight.dtypes)} (W0, run), and the suite is for `storage: "
                f"[{', '.join(expectation.storage)}]`: its figures are other figures"
            )


def _require_doubt(condition: Condition, question: Question, found: Sample) -> None:
    """Raise Unanswerable where the condition holds, or fails, whatever weights of these shapes do."""
    ranges = {question.metric.range(question.params, weight.shape) for weight in found.used.values()}
    low, high = min(low for low, _ in ranges), max(high for _, high in ranges)
    fault = condition.fault(low, high) if isinstance(condition, Band | Bands | Like) else None
    if fault:
        raise Unanswerable(f"`{condition.text}` {fault}, of weights of these shapes")
    if isinstance(condition, Trend) and condition.is_idle(low, len(found.cells)):
        count = len(found.cells)
        raise Unanswerable(f"`{condition.text}` cannot fail: of {count} figures it is at most {count:.0%}")


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
        return Observed(step, group, value, not condition.offence(value, theirs)[0], theirs)

    def offence(observed: Observed) -> Offence:
        return condition.offence(_value(observed), _reference(observed))

    def weight_offence(name: str, value: float) -> Offence:
        other = companion.cells[companion.matched[extreme.step].step].get(name)
        return NO_OFFENCE if other is None else condition.offence(value, other)

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
    figures = evidence_figures(record, expectation.weights, expectation.at)
    warnings = fused_warning(expectation.weights.select(record.weights))
    classified = {step: classify(by_metric, condition.profiles) for step, by_metric in figures.items()}
    observed = tuple(
        Observed(step, None, result.distances[condition.name], result.name == condition.name)
        for step, result in classified.items()
    )
    extreme = max(observed, key=lambda o: (not o.holds, _value(o)))
    verb = "is" if extreme.holds else "expected"
    message = f"regime {verb} {condition.name}; at step {extreme.step}: {classified[extreme.step].describe()}"
    return Finding(all(o.holds for o in observed), message, observed, extreme, warnings=warnings)


def _sufficiency(expectation: Expectation, condition: Sufficiency, record: Record, reference: Record | None) -> Finding:
    steps = [point.step for point in expectation.at.select(record.points)]
    found = compare(condition, record, reference, steps, expectation.weights)

    def observe(step: int, share: float) -> Observed:
        best = found.best(step).shares[step]
        return Observed(step, None, share, not condition.offence(share, best)[0], random=best)

    def offence(observed: Observed) -> Offence:
        return condition.offence(_value(observed), found.best(observed.step).shares[observed.step])

    observed = tuple(observe(step, share) for step, share in found.own.shares.items())
    extreme = max(observed, key=offence)
    k = found.constraint.k
    beside = ((found.own, "learned"), *((control, "random") for control in found.controls))
    worst = tuple(Worst(extreme.step, f"{run.name} ({how}, K = {k})", run.shares[extreme.step]) for run, how in beside)
    message = wording.sufficiency(condition, found, observed, extreme)
    return Finding(all(o.holds for o in observed), message, observed, extreme, worst)


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
