"""What an expectation came to."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from geomcheck.errors import GeomcheckError, Position

Outcome = Literal["passed", "failed", "error", "warned", "info"]


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

    def to_dict(self) -> dict[str, Any]:
        """In plain builtins; ``reference``, ``random``, ``low`` and ``high`` only where there are such."""
        facts = {"step": int(self.step), "group": self.group, **_number(self.value), "holds": _flag(self.holds)}
        if self.reference is not None:
            facts["reference"] = _finite(self.reference)
        if self.random is not None:
            facts["random"] = _finite(self.random)
        if self.band is not None:
            facts |= {"low": self.band[0], "high": self.band[1]}
        return facts


@dataclass(frozen=True)
class Worst:
    """One weight's own figure at the checkpoint where the run is furthest off."""

    step: int
    weight: str
    value: float | None


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
        outcome: ``error`` means that it could not be judged, whatever its level.
        message: one sentence: what was demanded, what was found.
        observed: by group, then by step.
        allow: share of the groups that may violate the condition.
        decisive: the one of `observed` that decided: the furthest on the wrong side, or the closest to a bound
            when none is; of a trend the point that breaks it, or the last. None where nothing was judged.
        worst: up to five weights: those on the wrong side, the furthest first, or the closest to it when none is.
        percent: whether figures are shown as percentages.
        bounds: (low, high) of the condition, None where there is no such bound; None for conditions that
            are not a fixed band.
        warnings: what makes the figure less trustworthy than it looks.
    """

    id: str
    metric: str
    params: Mapping[str, Any]
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
    worst: tuple[Worst, ...] = ()
    counts: Counts = field(default_factory=Counts)
    why: str = ""
    unit: str = ""
    percent: bool = False
    bounds: tuple[float | None, float | None] | None = None
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

    def to_dict(self) -> dict[str, Any]:
        """The verdict in the shape of ``--geom-json``, in plain builtins; non-finite numbers as null."""
        return {
            "id": self.id,
            "metric": self.metric,
            "params": _builtin(self.params),
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
            "worst": [{"step": int(w.step), "weight": w.weight, **_number(w.value)} for w in self.worst],
            "weights": {"measured": self.measured, "frozen": self.frozen, "skipped": self.skipped},
            "unit": self.unit,
            "percent": self.percent,
            "bounds": None if self.bounds is None else {"low": self.bounds[0], "high": self.bounds[1]},
            "why": self.why,
            "warnings": list(self.warnings),
            "position": {
                "path": self.position.path,
                "line": self.position.line,
                "column": self.position.column,
            },
        }


def _number(value: float | None) -> dict[str, Any]:
    if value is None:
        return {"value": None, "reason": "no figure"}
    if not math.isfinite(value):
        return {"value": None, "reason": f"{float(value)} is not a finite number"}
    return {"value": float(value)}


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _flag(holds: bool | None) -> bool | None:
    return None if holds is None else bool(holds)


def _builtin(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _builtin(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_builtin(item) for item in value]
    return value
