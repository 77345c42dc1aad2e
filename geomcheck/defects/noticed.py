"""Whether a gate would be red, by which expectation, and from which checkpoint."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from geomcheck.diagnostics import load_metrics
from geomcheck.record import Point
from geomcheck.suite import Verdict

RED = ("failed", "error")
"""Outcomes with which a gate is red."""


@dataclass(frozen=True)
class Notice:
    """How a gate is red.

    Attributes:
        failed: the ids of all expectations that fail: those first that fail at the earliest checkpoint, of these the
            clearest. None where the run is refused before any is judged.
        step: of the checkpoint from which the first of them fails; of a run that is refused, of the last that the
            reason names, and None where it names none.
        reason: why the run is refused, or the first cannot be judged; empty where it failed.
    """

    failed: tuple[str, ...]
    step: int | None
    reason: str = ""


def notice(judged: Sequence[Verdict] | str, points: Sequence[Point]) -> Notice | None:
    """How a gate is red by these verdicts on a run with these checkpoints, or by the reason why it is refused; None
    where it is green."""
    if isinstance(judged, str):
        named = [point.step for point in points if re.search(rf"\b{re.escape(point.name)}\b", judged)]
        return Notice((), max(named, default=None), judged)
    bad = [verdict for verdict in judged if verdict.outcome in RED]
    if not bad:
        return None
    steps = {verdict.id: _since(verdict, points) for verdict in bad}
    bad.sort(key=lambda verdict: (steps[verdict.id], -clarity(verdict)))
    return Notice(tuple(verdict.id for verdict in bad), steps[bad[0].id], bad[0].cause)


def clarity(verdict: Verdict) -> float:
    """How far outside a verdict is: the largest distance from the middle of the band over the checkpoints, in half
    widths of the band, so that above 1 is outside; infinite where it could not be judged."""
    if verdict.outcome == "error":
        return math.inf
    return max((_from_middle(*item) for item in _banded(verdict)), default=0.0)


def _since(verdict: Verdict, points: Sequence[Point]) -> int:
    """The step at which a gate could first be red; a figure that compares with a later checkpoint waits for the
    last."""
    known = load_metrics()
    across = verdict.metric in known and known[verdict.metric].is_across(verdict.params)
    steps = [seen.step for seen in verdict.observed if seen.holds is False]
    return min(steps) if steps and not across else points[-1].step


def _from_middle(value: float, low: float, high: float) -> float:
    distance = abs(value - (low + high) / 2)
    return distance / ((high - low) / 2) if high > low else math.inf if distance else 0.0


def _banded(verdict: Verdict) -> Iterator[tuple[float, float, float]]:
    for seen in verdict.observed:
        low, high = seen.band or verdict.bounds or (None, None)
        if seen.value is not None and low is not None and high is not None:
            yield seen.value, low, high
