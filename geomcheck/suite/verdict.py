"""What an expectation came to."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NotRequired, TypedDict

from geomcheck.errors import GeomcheckError, Position

Outcome = Literal["passed", "failed", "error", "warned", "info"]
Side = Literal["above", "below"]
"""On which side of what is demanded a figure is."""

Bounds = tuple[float | None, float | None]
"""(low, high), None for an open side."""


class FigureFacts(TypedDict):
    """A figure in ``--geom-json``: null with the reason where it is no finite number."""

    value: float | None
    reason: NotRequired[str]


class ObservedFacts(FigureFacts):
    """An `Observed` in ``--geom-json``; the last four only where there are such."""

    step: int
    group: str | None
    holds: bool | None
    reference: NotRequired[float | None]
    random: NotRequired[float | None]
    low: NotRequired[float]
    high: NotRequired[float]


class WorstFacts(FigureFacts):
    """A `Worst` in ``--geom-json``."""

    step: int
    weight: str


class BoundsFacts(TypedDict):
    """Two bounds in ``--geom-json``."""

    low: float | None
    high: float | None


class AreaFacts(BoundsFacts):
    """An `Area` in ``--geom-json``."""

    words: str


class CountsFacts(TypedDict):
    """`Counts` in ``--geom-json``."""

    measured: int
    frozen: int
    skipped: int


class PositionFacts(TypedDict):
    """Where an expectation stands."""

    path: str
    line: int
    column: int


class Facts(TypedDict):
    """A verdict in ``--geom-json``: plain builtins, which travel between pytest's workers. See `Verdict`."""

    id: str
    metric: str
    params: dict[str, Any]
    kind: str
    condition: str
    at: str
    per: str
    fold: str
    allow: float
    level: str
    outcome: Outcome
    message: str
    observed: list[ObservedFacts]
    decisive: ObservedFacts | None
    side: Side | None
    meaning: str
    worst: list[WorstFacts]
    weights: CountsFacts
    unit: str
    percent: bool
    bounds: BoundsFacts | None
    drawn: AreaFacts | None
    why: str
    warnings: list[str]
    position: PositionFacts


class JudgedFacts(Facts):
    """A verdict with what was judged by what: the run's name, and the suite's name and path."""

    run: str
    suite: str
    path: str


class Unanswerable(GeomcheckError):
    """A record cannot answer an expectation. The message says why and what to change."""


@dataclass(frozen=True)
class Observed:
    """The folded figure at one checkpoint; `group` is None for the whole run.

    `reference` is the reference run's figure at the matching checkpoint, where one is compared with; `band` the
    checkpoint's own (low, high), where each has one; `random` the figure of the best random control, where there are
    such.
    """

    step: int
    group: str | None
    value: float | None
    holds: bool | None
    reference: float | None = None
    band: tuple[float, float] | None = None
    random: float | None = None

    def to_dict(self) -> ObservedFacts:
        """In plain builtins; ``reference``, ``random``, ``low`` and ``high`` only where there are such."""
        holds = None if self.holds is None else bool(self.holds)
        number = _number(self.value)
        facts = ObservedFacts(step=int(self.step), group=self.group, value=number["value"], holds=holds)
        if "reason" in number:
            facts["reason"] = number["reason"]
        if self.reference is not None:
            facts["reference"] = _finite(self.reference)
        if self.random is not None:
            facts["random"] = _finite(self.random)
        if self.band is not None:
            facts["low"], facts["high"] = self.band
        return facts


@dataclass(frozen=True)
class Worst:
    """One weight's own figure at the checkpoint where the run is furthest off."""

    step: int
    weight: str
    value: float | None


@dataclass(frozen=True)
class Area:
    """What a chart shades as allowed: from `low` to `high` (None: open), with words where the bounds do not say it."""

    low: float | None
    high: float | None
    words: str = ""


@dataclass(frozen=True)
class Counts:
    """Of the selected weights: how many were folded, never changed, or could not be measured."""

    measured: int = 0
    frozen: int = 0
    skipped: int = 0


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The outcome of one expectation on one run, with everything a report shows.

    Attributes:
        kind: the keyword of the condition.
        outcome: ``error`` means that it could not be judged, whatever its level.
        message: one sentence: what was demanded, what was found.
        observed: by group, then by step.
        allow: share of the groups that may violate the condition.
        decisive: the one of `observed` that decided: the furthest on the wrong side, or the closest to a bound
            when none is; of a trend the point that breaks it, or the last. None where nothing was judged.
        side: where the decisive figure violates the condition, on which side of it.
        meaning: what a violation means to people, where the side and the metric's own words do not tell.
        worst: up to five weights: those on the wrong side, the furthest first, or the closest to it when none is.
        percent: whether figures are shown as percentages.
        bounds: (low, high) of the condition, None where there is no such bound; None for conditions that
            are not a fixed band.
        drawn: the area that a chart shades, where it is the same at every checkpoint.
        warnings: what makes the figure less trustworthy than it looks.
    """

    id: str
    metric: str
    params: Mapping[str, Any]
    kind: str
    condition: str
    at: str
    per: str
    fold: str
    level: str
    allow: float = 0.0
    outcome: Outcome
    message: str
    position: Position
    observed: tuple[Observed, ...] = ()
    decisive: Observed | None = None
    side: Side | None = None
    meaning: str = ""
    worst: tuple[Worst, ...] = ()
    counts: Counts = field(default_factory=Counts)
    why: str = ""
    unit: str = ""
    percent: bool = False
    bounds: Bounds | None = None
    drawn: Area | None = None
    warnings: tuple[str, ...] = ()

    @property
    def measured(self) -> int:
        """Number of weights that were folded."""
        return self.counts.measured

    @property
    def frozen(self) -> int:
        """Number of selected weights that never changed."""
        return self.counts.frozen

    @property
    def skipped(self) -> int:
        """Number of selected weights that could not be measured."""
        return self.counts.skipped

    def to_dict(self) -> Facts:
        """The verdict in the shape of ``--geom-json``, in plain builtins; non-finite numbers as null."""
        return {
            "id": self.id,
            "metric": self.metric,
            "params": _builtin(self.params),
            "kind": self.kind,
            "condition": self.condition,
            "at": self.at,
            "per": self.per,
            "fold": self.fold,
            "allow": float(self.allow),
            "level": self.level,
            "outcome": self.outcome,
            "message": self.message,
            "observed": [o.to_dict() for o in self.observed],
            "decisive": None if self.decisive is None else self.decisive.to_dict(),
            "side": self.side,
            "meaning": self.meaning,
            "worst": [{"step": int(w.step), "weight": w.weight, **_number(w.value)} for w in self.worst],
            "weights": {"measured": self.measured, "frozen": self.frozen, "skipped": self.skipped},
            "unit": self.unit,
            "percent": self.percent,
            "bounds": None if self.bounds is None else {"low": self.bounds[0], "high": self.bounds[1]},
            "drawn": None
            if self.drawn is None
            else {"low": self.drawn.low, "high": self.drawn.high, "words": self.drawn.words},
            "why": self.why,
            "warnings": list(self.warnings),
            "position": {
                "path": self.position.path,
                "line": self.position.line,
                "column": self.position.column,
            },
        }


def _number(value: float | None) -> FigureFacts:
    if value is None:
        return {"value": None, "reason": "no figure"}
    if not math.isfinite(value):
        return {"value": None, "reason": f"{float(value)} is not a finite number"}
    return {"value": float(value)}


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _builtin(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _builtin(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_builtin(item) for item in value]
    return value
