"""The one sentence of a verdict: what was demanded, what was found, where."""

from __future__ import annotations

import math

from geomcheck.record.record import Point
from geomcheck.suite.conditions.band import Band
from geomcheck.suite.conditions.kinds import SPREAD, Like, Trend, spread
from geomcheck.suite.conditions.sufficiency import SUFFICIENCY, Compared, Sufficiency
from geomcheck.suite.expectation import Expectation
from geomcheck.suite.language.quantities import Scale
from geomcheck.suite.verdict import Observed

_DIGITS = (4, 7, 10, 17)


def band(
    expectation: Expectation, observed: tuple[Observed, ...], extreme: Observed, condition: Band, weights: int
) -> str:
    """The sentence for a fixed band; `extreme` is the furthest on the wrong side, or the closest to a bound."""
    if extreme.holds:
        found = _kept(expectation, observed, condition.scale, weights)
    else:
        found = _outside(expectation, observed, extreme, _against(extreme, condition), weights)
    held = within_allowance(observed, expectation.allow)
    if isinstance(expectation.condition, Like) and expectation.condition.unlike:
        verb = "is" if held else "is not"
    else:
        verb = "keeps" if held else "left"
    return f"{expectation.metric} {verb} {expectation.condition.text}{found}"


def bands(
    expectation: Expectation, observed: tuple[Observed, ...], extreme: Observed, condition: Band, weights: int
) -> str:
    """The sentence for a band per checkpoint; `condition` is that of the checkpoint of `extreme`."""
    sentence = band(expectation, observed, extreme, condition, weights)
    return f"{sentence}; the band of step {extreme.step} is {condition.text}"


def like(
    expectation: Expectation,
    observed: tuple[Observed, ...],
    extreme: Observed,
    theirs: float,
    match: Point,
    weights: int,
) -> str:
    """The sentence for a comparison; the reference has `theirs` at its checkpoint `match`."""
    condition = expectation.condition
    assert isinstance(condition, Like)
    sentence = band(expectation, observed, extreme, condition.around(theirs), weights)
    return f"{sentence}; the reference has {condition.scale.show(theirs)} at step {match.step}"


def trend(
    expectation: Expectation,
    observed: tuple[Observed, ...],
    extreme: Observed,
    condition: Trend,
    weights: int,
) -> str:
    """The sentence for a trend; `extreme` is the point that breaks it, or the last."""
    held = within_allowance(observed, expectation.allow)
    subject = f"{expectation.metric} {'is' if held else 'is not'} {condition.phrase}"
    if expectation.per != "run":
        subject += f" in {_groups(expectation, observed)}"
        if not extreme.holds:
            subject += f", {'not' if held else 'as'} in {extreme.group}"
    own = [o for o in observed if o.group == extreme.group]
    return f"{subject}{_course(condition, own, extreme)} ({_how(expectation, weights)})"


def _course(condition: Trend, own: list[Observed], extreme: Observed) -> str:
    """The course of one group's figures, as far as it shows why `condition` holds or not."""
    values = [math.nan if o.value is None else o.value for o in own]
    show = condition.scale.show
    if condition.direction == "flat":
        low, high = show(min(values)), show(max(values))
        return f": {SPREAD} is {spread(values) * 100:.4g}%, with {low} to {high} at {len(own)} checkpoints"
    here = own.index(extreme)
    ends = f": {show(values[0])} at step {own[0].step}, {show(values[-1])} at step {own[-1].step}"
    unmoved = here == len(own) - 1 and not _moved(condition, values)
    if extreme.holds or unmoved:
        return ends
    return f" at step {extreme.step}: {show(values[here])} after {show(values[here - 1])}"


def sufficiency(condition: Sufficiency, found: Compared, observed: tuple[Observed, ...], extreme: Observed) -> str:
    """The sentence for what a constrained run kept, with what its controls kept beside it."""
    step, show = extreme.step, condition.scale.show
    (start, free_start), (own, free) = found.scores[found.origin], found.scores[step]
    gain = f"gain in {condition.score}{f' since step {found.origin}' if condition.since_constraint else ''}"
    free_path = f"{free:.4g}" if free_start == start else f"{free_start:.4g} to {free:.4g}"
    broken = sum(not o.holds for o in observed)
    many = f" at {broken} of {len(observed)} checkpoints, furthest" if broken > 1 else ""
    best, count = found.best(step), len(found.controls)
    controls = "the random channel keeps" if count == 1 else f"the best of {count} random channels keeps"
    return (
        f"{SUFFICIENCY} {'left' if broken else 'keeps'} {condition.text}{many} at step {step}: "
        f"{_against(extreme, condition.band)} of the free run's {gain} is kept inside K = "
        f"{found.constraint.k} directions learned by step {found.constraint.start_step}, {controls} "
        f"{show(best.shares[step])} ({start:.4g} to {own:.4g}; free {free_path})"
    )


def within_allowance(observed: tuple[Observed, ...], allow: float) -> bool:
    """Whether the share of groups with a violation is at most `allow`."""
    outside, total = _count(observed)
    if outside == 0:
        return total > 0
    return outside < total and outside <= allow * total + 1e-9


def plural(count: int, noun: str) -> str:
    """``1 layer``, ``3 layers``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _outside(
    expectation: Expectation, observed: tuple[Observed, ...], extreme: Observed, value: str, weights: int
) -> str:
    how = f"({_how(expectation, weights)})"
    if expectation.per != "run":
        place = f"furthest in {extreme.group} at step {extreme.step}"
        return f" in {_groups(expectation, observed)}, {place}: {value} {how}"
    broken = sum(not o.holds for o in observed)
    if broken > 1:
        return f" at {broken} of {len(observed)} checkpoints, furthest at step {extreme.step}: {value} {how}"
    return f" at step {extreme.step}: {value} {how}"


def _kept(expectation: Expectation, observed: tuple[Observed, ...], scale: Scale, weights: int) -> str:
    values = [o.value for o in observed if o.value is not None]
    low, high = scale.show(min(values)), scale.show(max(values))
    shown = low if low == high else f"{low} to {high}"
    steps = sorted({o.step for o in observed})
    when = f"at step {steps[0]}" if len(steps) == 1 else f"at {len(steps)} checkpoints"
    where = f" in all {plural(_count(observed)[1], expectation.per)}" if expectation.per != "run" else ""
    return f"{where} {when}: {shown} ({_how(expectation, weights)})"


def _groups(expectation: Expectation, observed: tuple[Observed, ...]) -> str:
    outside, total = _count(observed)
    if not outside:
        return f"all {plural(total, expectation.per)}"
    some = f"{outside} of {plural(total, expectation.per)}"
    if not expectation.allow:
        return some
    share = f"({outside / total * 100:.3g}%, allowed {expectation.allow * 100:.3g}%)"
    return f"{'all but ' if within_allowance(observed, expectation.allow) else ''}{some} {share}"


def _count(observed: tuple[Observed, ...]) -> tuple[int, int]:
    outside = {o.group for o in observed if not o.holds}
    return len(outside), len({o.group for o in observed})


def _how(expectation: Expectation, weights: int) -> str:
    if expectation.per == "weight":
        return plural(weights, "weight")
    fold = {"weighted": "mean weighted by size"}.get(expectation.fold, expectation.fold)
    if expectation.per != "run":
        return f"{fold} in each {expectation.per}, {plural(weights, 'weight')} in all"
    return f"{fold} of {plural(weights, 'weight')}"


def _against(observed: Observed, condition: Band) -> str:
    """The value with enough digits to be told from the bound that it violates."""
    value = math.nan if observed.value is None else observed.value
    edges = [edge for edge in (condition.low, condition.high) if math.isfinite(edge)]
    for digits in _DIGITS:
        shown = condition.scale.show(value, digits)
        if all(value == edge or shown != condition.scale.show(edge, digits) for edge in edges):
            break
    return shown


def _moved(condition: Trend, values: list[float]) -> bool:
    return values[-1] > values[0] if condition.direction == "rising" else values[-1] < values[0]
