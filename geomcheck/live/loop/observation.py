"""What a training learns from being observed: at its beginning, and from each observation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from geomcheck.suite import Verdict


@dataclass(frozen=True)
class Beginning:
    """What a training begins with.

    Attributes:
        weights: how many will be measured, as far as the budget allows.
        departures: those of a few that are not as in W0; there should be none.
    """

    weights: int
    departures: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Observation:
    """What came of one observation of the model.

    Attributes:
        figures: what a tracker shows, by name.
        violations: verdicts that no later checkpoint can mend, of expectations of level ``error``.
        unjudged: verdicts on expectations that cannot be judged, as things stand.
        open: names of the expectations that later checkpoints still decide.
        stop: whether the training should stop.
        seconds: how long it took.
        watched, weights: of how many weights figures are known, and of how many they are wanted.
    """

    step: int
    figures: Mapping[str, float] = field(default_factory=dict)
    violations: tuple[Verdict, ...] = ()
    unjudged: tuple[Verdict, ...] = ()
    open: tuple[str, ...] = ()
    stop: bool = False
    seconds: float = 0.0
    watched: int = 0
    weights: int = 0
