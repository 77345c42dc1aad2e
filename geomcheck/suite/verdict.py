"""What an expectation came to."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NotRequired, TypedDict

from geomcheck._html import paragraph, table
from geomcheck.diagnostics import Unit
from geomcheck.errors import GeomcheckError, Position
from geomcheck.suite.language.quantities import Scale

Outcome = Literal["passed", "failed", "error", "warned", "info"]
Side = Literal["above", "below"]
"""On which side of what is demanded a figure is."""

ROWS = 40
"""Figures that a verdict shows in a notebook."""

Bounds = tuple[float | None, float | None]
"""(low, high), None for an open side."""


class ObservedFacts(TypedDict):
    """An `Observed` in ``--geom-json``, with the reason where `value` is null; the other keys only where there are."""

    step: int
    group: str | None
    value: float | None
    holds: bool | None
    reason: NotRequired[str]
    reference: NotRequired[float | None]
    random: NotRequired[float | None]
    low: NotRequired[float]
    high: NotRequired[float]


class WorstFacts(TypedDict):
    """A `Worst` in ``--geom-json``; the other keys only where there are."""

    step: int
    weight: str
    value: float | None
    outside: bool | None
    reason: NotRequired[str]
    low: NotRequired[float]
    high: NotRequired[float]


class AreaFacts(TypedDict):
    """An `Area` in ``--geom-json``; the condition's bounds have no words."""

    low: float | None
    high: float | None
    words: NotRequired[str]


class DecidedFacts(TypedDict):
    """A `Decided` in ``--geom-json``; of an exact verdict the words alone."""

    words: str
    weights: NotRequired[int]
    of: NotRequired[int]
    confidence: NotRequired[float]


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
    weights: dict[str, int]
    unit: str
    percent: bool
    bounds: AreaFacts | None
    drawn: AreaFacts | None
    why: str
    warnings: list[str]
    cause: str
    decided: DecidedFacts | None
    position: dict[str, Any]


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
    value: float
    holds: bool | None
    reference: float | None = None
    band: tuple[float, float] | None = None
    random: float | None = None

    def to_dict(self) -> ObservedFacts:
        """In plain builtins; ``reference``, ``random``, ``low`` and ``high`` only where there are such."""
        holds = None if self.holds is None else bool(self.holds)
        facts = ObservedFacts(step=int(self.step), group=self.group, value=_finite(self.value), holds=holds)
        if not math.isfinite(self.value):
            facts["reason"] = _not_finite(self.value)
        if self.reference is not None:
            facts["reference"] = _finite(self.reference)
        if self.random is not None:
            facts["random"] = _finite(self.random)
        if self.band is not None:
            facts["low"], facts["high"] = self.band
        return facts


@dataclass(frozen=True)
class Worst:
    """One weight's own figure at the checkpoint where the run is furthest off.

    `outside` says whether it is what a weight should not be by itself: outside its own `normal` (low, high), unlike its
    own figure of the reference, of another trend. None where it could only be compared with the other weights.
    """

    step: int
    weight: str
    value: float
    outside: bool | None = None
    normal: tuple[float, float] | None = None

    def to_dict(self) -> WorstFacts:
        """In plain builtins; ``low`` and ``high`` only where a normal range is known."""
        facts = WorstFacts(step=int(self.step), weight=self.weight, value=_finite(self.value), outside=self.outside)
        if self.normal is not None:
            facts["low"], facts["high"] = self.normal
        if not math.isfinite(self.value):
            facts["reason"] = _not_finite(self.value)
        return facts


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


EXACT = "exact"
"""What is said of a verdict on every weight."""


@dataclass(frozen=True)
class Decided:
    """How a verdict was reached before every weight was measured.

    Attributes:
        weights, of: how many of how many weights were measured.
        confidence: with what probability no verdict of the session is wrong that was reached so; 1 where nothing that
            is left can change this one.
        groups: in how many of how many layers or modules they are, in words; empty where in all.
    """

    weights: int
    of: int
    confidence: float
    groups: str = ""

    @property
    def words(self) -> str:
        """For people: ``decided at 99% on 61 of 252 weights``."""
        how = "certain after" if self.confidence == 1 else f"decided at {100 * self.confidence:.10g}% on"
        return f"{how} {self.weights} of {self.of} weights{', in ' * bool(self.groups)}{self.groups}"

    def to_dict(self) -> DecidedFacts:
        """In plain builtins."""
        return {"words": self.words, "weights": self.weights, "of": self.of, "confidence": self.confidence}


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The outcome of one expectation on one run, with everything a report shows.

    Attributes:
        kind: the keyword of the condition.
        outcome: ``error`` means that it could not be judged, or not at every checkpoint, whatever its level.
        message: one sentence: what was demanded, what was found.
        observed: by group, then by step.
        allow: share of the groups that may violate the condition.
        decisive: the one of `observed` that decided: the furthest on the wrong side, or the closest to a bound
            when none is; of a trend the point that breaks it, or the last. None where nothing was judged.
        side: where the decisive figure violates the condition, on which side of it.
        meaning: what a violation means to people, where the side and the metric's own words do not tell.
        worst: up to five weights: those that are not as they should be by themselves, the furthest first; where that is
            not known, or none is, those furthest from the others, of a violation on its side.
        percent: whether figures are shown as percentages.
        bounds: (low, high) of the condition, None where there is no such bound; None for conditions that
            are not a fixed band.
        drawn: the area that a chart shades, where it is the same at every checkpoint.
        warnings: what makes the figure less trustworthy than it looks.
        cause: why it could not be judged, or not at every checkpoint; the same text for all that one cause stops.
        decided: how it was reached on some of the weights; None where it is exact, or there is no figure.
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
    cause: str = ""
    decided: Decided | None = None

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
            "worst": [worst.to_dict() for worst in self.worst],
            "weights": asdict(self.counts),
            "unit": self.unit,
            "percent": self.percent,
            "bounds": None if self.bounds is None else {"low": self.bounds[0], "high": self.bounds[1]},
            "drawn": None
            if self.drawn is None
            else AreaFacts(low=self.drawn.low, high=self.drawn.high, words=self.drawn.words),
            "why": self.why,
            "warnings": list(self.warnings),
            "cause": self.cause,
            "decided": self.how_decided(),
            "position": asdict(self.position),
        }

    def _repr_html_(self) -> str:
        """The verdict in a notebook: its sentence and the figures behind it, with the weights to look at."""
        figures = [(o.step, o.group or "run", self._shown(o.value), _word(o.holds)) for o in self.observed]
        weights = [(w.weight, w.step, self._shown(w.value)) for w in self.worst]
        parts = [paragraph(f"{self.outcome}: {self.id}", self.message, *([f"why: {self.why}"] if self.why else []))]
        parts += [table(("step", "of", self.metric, ""), figures[:ROWS], left=2)] if figures else []
        parts += [f"<p>and {len(figures) - ROWS} more figures</p>"] if len(figures) > ROWS else []
        parts += [table(("weight to look at", "step", self.metric), weights)] if weights else []
        return f"<div>{''.join(parts)}</div>"

    def _shown(self, value: float) -> str:
        return Scale(Unit.DEGREES if self.unit == Unit.DEGREES else Unit.NUMBER, self.percent).show(value)

    def how_decided(self) -> DecidedFacts | None:
        """How it was reached; None where there is no figure."""
        if self.decided is not None:
            return self.decided.to_dict()
        return {"words": EXACT} if self.observed else None


class Verdicts(list[Verdict]):
    """The verdicts of a suite on one record, in its order: a list that shows itself in a notebook."""

    def _repr_html_(self) -> str:
        counts = Counter(verdict.outcome for verdict in self)
        head = paragraph(", ".join(f"{count} {outcome}" for outcome, count in counts.items()) or "no verdicts")
        rows = [(v.outcome, v.id, v.metric, _decided(v), v.condition) for v in self]
        return f"<div>{head}{table(('outcome', 'expectation', 'metric', 'value', 'expected'), rows, left=5)}</div>"


def _decided(verdict: Verdict) -> str:
    """The figure that decided, or why there is none."""
    found = verdict.decisive
    return verdict.cause if found is None else f"{verdict._shown(found.value)} at step {found.step}"


def _word(holds: bool | None) -> str:
    return {True: "holds", False: "violates", None: ""}[holds]


def _not_finite(value: float) -> str:
    """Why a figure is null in JSON."""
    return f"{float(value)} is not a finite number"


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _builtin(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _builtin(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_builtin(item) for item in value]
    return value
