"""The sentences that verdicts share: how many groups are outside, by how much, of how many weights."""

from __future__ import annotations

from typing import Protocol

from geomcheck._text import plural
from geomcheck.suite.conditions.band import Band
from geomcheck.suite.expectation import Expectation
from geomcheck.suite.language.quantities import Scale
from geomcheck.suite.verdict import Bounds, Observed

_DIGITS = (4, 7, 10, 17)

RANGE_DIGITS = 4
"""Of ranges of single weights, which are made of figures with as many."""

BOUND_DIGITS = 6
"""Of bounds, which suites write with fewer."""


def in_band(
    expectation: Expectation, observed: tuple[Observed, ...], extreme: Observed, band: Band, weights: int
) -> str:
    """The sentence for figures against a band; `extreme` is the furthest outside, or the closest to a bound."""
    if extreme.holds:
        found = _kept(expectation, observed, band.scale, weights)
    else:
        found = _outside(expectation, observed, extreme, against(extreme.value, band.bounds, band.scale), weights)
    return f"{subject(expectation, observed)} {expectation.condition.called}{found}"


def subject(expectation: Expectation, observed: tuple[Observed, ...]) -> str:
    """The metric, and what it does with the condition."""
    kept, left = expectation.condition.verbs
    return f"{expectation.metric} {kept if within_allowance(observed, expectation.allow) else left}"


def within_allowance(observed: tuple[Observed, ...], allow: float) -> bool:
    """Whether the share of groups with a violation is at most `allow`."""
    outside, total = _count(observed)
    if outside == 0:
        return total > 0
    return outside < total and outside <= allow * total + 1e-9


def _outside(
    expectation: Expectation, observed: tuple[Observed, ...], extreme: Observed, value: str, weights: int
) -> str:
    folded = f"({how(expectation, weights)})"
    if expectation.per != "run":
        place = f"furthest in {extreme.group} at step {extreme.step}"
        return f" in {groups(expectation, observed)}, {place}: {value} {folded}"
    broken = sum(not o.holds for o in observed)
    if broken > 1:
        return f" at {broken} of {len(observed)} checkpoints, furthest at step {extreme.step}: {value} {folded}"
    return f" at step {extreme.step}: {value} {folded}"


def _kept(expectation: Expectation, observed: tuple[Observed, ...], scale: Scale, weights: int) -> str:
    values = [o.value for o in observed]
    low, high = scale.show(min(values)), scale.show(max(values))
    shown = low if low == high else f"{low} to {high}"
    steps = sorted({o.step for o in observed})
    when = f"at step {steps[0]}" if len(steps) == 1 else f"at {len(steps)} checkpoints"
    where = f" in all {plural(_count(observed)[1], expectation.per)}" if expectation.per != "run" else ""
    return f"{where} {when}: {shown} ({how(expectation, weights)})"


def groups(expectation: Expectation, observed: tuple[Observed, ...]) -> str:
    """How many of the groups violate the condition, and how many may."""
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


def how(expectation: Expectation, weights: int) -> str:
    """How the figures of how many weights were folded."""
    if expectation.per == "weight":
        return plural(weights, "weight")
    fold = {"weighted": "mean weighted by size"}.get(expectation.fold, expectation.fold)
    if expectation.per != "run":
        return f"{fold} in each {expectation.per}, {plural(weights, 'weight')} in all"
    return f"{fold} of {plural(weights, 'weight')}"


def against(value: float, bounds: Bounds, scale: Scale) -> str:
    """The value with enough digits to be told from the bound that it violates."""
    edges = [edge for edge in bounds if edge is not None]
    for digits in _DIGITS:
        shown = scale.show(value, digits)
        if all(value == edge or shown != scale.show(edge, digits) for edge in edges):
            break
    return shown


class Writes(Protocol):
    """How figures are written."""

    def show(self, value: float, digits: int, /) -> str:
        """`value` to so many significant digits."""
        ...


def between(bounds: Bounds, written: Writes, digits: int = BOUND_DIGITS) -> str:
    """A band in words: ``0.281 to 0.316``, ``above 0.281``, ``below 0.316``; one figure where both ends are."""
    low, high = bounds
    ends = [written.show(end, digits) for end in bounds if end is not None]
    if low is not None and high is not None:
        return ends[0] if low == high else " to ".join(ends)
    return f"{'below' if low is None else 'above'} {ends[0]}"
