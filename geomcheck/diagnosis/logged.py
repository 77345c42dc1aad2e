"""The trainer's log beside those of good runs: what differs, in words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from geomcheck.diagnosis.case import Case

SAME = math.log(1.15)
"""How far the log of a ratio of two logs may be from 0."""

FLAT = 0.05
"""Spread of the log of a ratio, up to which it is one factor."""

FEWEST = 2
"""Steps at which both must have logged."""


TOLD, EXPECTED = "rate told", "another loss"
"""Keys in the memory of a case: set where a finding has told how the learning rate differs, and where another objective
is likely, so that the loss may differ."""


class Rate(NamedTuple):
    """How the learning rate of a run differs from that of the good run whose is nearest.

    Attributes:
        ratio: of all steps together.
        text: both of them, in words.
    """

    ratio: float
    text: str


def rate(case: Case) -> Rate | None:
    """The difference in the learning rates that were logged; None where there is none, or no log."""
    found = [_rate(case.log["learning rate"], one.log["learning rate"]) for one in case.good]
    told = [one for one in found if one is not None]
    if not told or any(one.text == "" for one in told):
        return None
    return min(told, key=lambda one: abs(math.log(one.ratio)))


def is_known(case: Case) -> bool:
    """Whether the learning rates of the run and of a good one are logged."""
    return any(_rate(case.log["learning rate"], one.log["learning rate"]) for one in case.good)


def _rate(own: Mapping[int, float], good: Mapping[int, float]) -> Rate | None:
    """None where they cannot be compared; without a text where they are the same."""
    steps, ours, theirs = _both(own, good)
    if len(steps) < FEWEST or not (ours > 0).any() or not (theirs > 0).any() or min(ours.min(), theirs.min()) < 0:
        return None
    ratio, peaks = float(ours.sum() / theirs.sum()), (float(ours.max()), float(theirs.max()))
    if max(abs(math.log(ratio)), abs(math.log(peaks[0] / peaks[1]))) <= SAME:
        return Rate(ratio, "")
    some = (ours > 0) & (theirs > 0)
    if float(np.std(np.log(ours[some] / theirs[some]))) <= FLAT:
        return Rate(ratio, f"{peaks[0]:.2g} in the log, {times(ratio)} the good run's {peaks[1]:.2g}")
    return Rate(ratio, f"{_course(steps, ours)} in the log, where the good run's {_course(steps, theirs, verb='is')}")


def _course(steps: np.ndarray, rates: np.ndarray, *, verb: str = "") -> str:
    first, last = f"{rates[0]:.2g}", f"{rates[-1]:.2g}"
    if first == last and rates.max() <= 1.05 * rates[0]:
        return f"{verb} {first} throughout".strip()
    top = int(rates.argmax())
    peak = f" by way of {rates[top]:.2g} at step {steps[top]}" if 0 < top < len(steps) - 1 else ""
    verb = "goes " if verb else ""
    return f"{verb}from {first} at step {steps[0]} to {last} at step {steps[-1]}{peak}"


def _both(own: Mapping[int, float], good: Mapping[int, float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The steps at which a run logged, within those of the good one, and what both then logged."""
    ours, theirs = ({step: value for step, value in log.items() if math.isfinite(value)} for log in (own, good))
    steps = [step for step in ours if theirs and min(theirs) <= step <= max(theirs)]
    others = np.interp(steps, list(theirs), list(theirs.values())) if steps else np.empty(0)
    return np.array(steps), np.array([ours[step] for step in steps]), others


def ratio(case: Case, name: str) -> float:
    """The median ratio of magnitudes that were logged, against the good run that is nearest; NaN where there is none,
    and infinite or 0 where one of them is zero throughout."""
    found = []
    for one in case.good:
        _, ours, theirs = _both(case.log[name], one.log[name])
        some = (ours != 0) & (theirs != 0)
        if some.sum() >= FEWEST:
            found.append(float(np.median(np.abs(ours[some] / theirs[some]))))
    return min(found, key=lambda value: abs(math.log(value)), default=math.nan)


def tokens(case: Case) -> float:
    """How many times the tokens of a step of a good run a step has, as the log counts; NaN where it does not."""
    own, goods = _slope(case.log["tokens"]), [_slope(one.log["tokens"]) for one in case.good]
    goods = [value for value in goods if value > 0]
    return min((own / value for value in goods), key=lambda r: abs(math.log(r)), default=math.nan) if own else math.nan


def _slope(counted: Mapping[int, float]) -> float:
    """What a step adds to a count; 0 where that is not known."""
    steps = [step for step, value in counted.items() if math.isfinite(value)]
    if len(steps) < FEWEST:
        return 0.0
    return max(0.0, (counted[steps[-1]] - counted[steps[0]]) / (steps[-1] - steps[0]))


def opposite(case: Case) -> bool:
    """Whether the loss has the other sign than in every good run."""
    own = _sign(case.log["loss"])
    goods = [_sign(one.log["loss"]) for one in case.good]
    return bool(own and goods) and all(sign == -own for sign in goods)


def _sign(losses: Mapping[int, float]) -> int:
    """Of a loss that keeps it at every step; 0 of any other."""
    signs = {math.copysign(1, value) for value in losses.values() if value}
    return int(signs.pop()) if len(signs) == 1 else 0


def times(factor: float) -> str:
    """``3 times``; ``0.5 times``."""
    return f"{factor:.3g} times"
