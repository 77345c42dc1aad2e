"""What a suite would notice, as it is told."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from geomcheck._text import plural
from geomcheck._version import VERSION
from geomcheck.record import Point

FORMAT = 1
"""Of `Power.to_dict`."""

MOST = 5
"""Defects that the summary names."""


Kinds = Literal["scale-up", "scale-down", "noise", "stale"]


@dataclass(frozen=True)
class Tried:
    """One defect, and what the suite made of it.

    Attributes:
        defect, about: its name, and what is wrong.
        where: the part of the run; empty where it is all of it.
        outcome: ``idle`` where the run has nothing that the defect could be in, for the `reason`.
        failed, step, reason: where it is caught, see `geomcheck.defects.noticed.Notice`; where it is idle, `reason`
            says why.
    """

    defect: str
    about: str
    where: str
    outcome: Literal["caught", "missed", "idle"]
    failed: tuple[str, ...] = ()
    step: int | None = None
    reason: str = ""

    @property
    def expectation(self) -> str:
        """The id of the expectation that catches it; empty where none does, or the run is refused before."""
        return self.failed[0] if self.failed else ""


@dataclass(frozen=True)
class Threshold:
    """The smallest change of one kind that is noticed, found by bisection.

    Attributes:
        kind: ``scale-up``, ``scale-down`` (factors of the update), ``noise`` (its share of the update's norm) or
            ``stale`` (how many matrices stand still from the middle on).
        noticed: the smallest of those tried that is noticed; None where not even the largest is.
        unnoticed: the largest below it; None where the smallest tried is noticed.
        of: how many there are, of ``stale``; else the largest that was tried.
        expectation: that notices it first; empty where the run is refused, or nothing does.
    """

    kind: Kinds
    noticed: float | None
    unnoticed: float | None
    of: float
    expectation: str = ""

    @property
    def text(self) -> str:
        """It in words, as a clause."""
        if self.kind == "stale":
            what = "stale matrices"
            if self.noticed is None:
                return f"not even all {self.of:g} matrices stale"
            return f"{self.noticed:g} of {self.of:g} {what} or more"
        if self.kind == "noise":
            if self.noticed is None:
                return f"no noise up to {self.of:.0%} of the update"
            return f"noise of {self.noticed:.0%} of the update or more"
        if self.noticed is None:
            return f"no larger update, up to {self.of:g} times" if self.kind == "scale-up" else "no smaller update"
        return f"update scaled by {self.noticed:.2f} or {'more' if self.kind == 'scale-up' else 'less'}"


@dataclass(frozen=True)
class Power:
    """What a suite would notice of the defects in a run.

    Attributes:
        suite, run, path: name of the suite; name and directory of the good run.
        points: the checkpoints of the run.
        tried: every defect.
        thresholds: the smallest changes that are noticed; those kinds that the run allows.
    """

    suite: str
    run: str
    path: str
    points: tuple[Point, ...]
    tried: tuple[Tried, ...]
    thresholds: tuple[Threshold, ...] = ()

    def of(self, outcome: Literal["caught", "missed", "idle"]) -> list[Tried]:
        """The defects with this outcome."""
        return [one for one in self.tried if one.outcome == outcome]

    @property
    def summary(self) -> str:
        """It in one line."""
        caught, missed = self.of("caught"), self.of("missed")
        parts = [f"would notice {len(caught)} of {plural(len(caught) + len(missed), 'defect')}"]
        scale = [one for one in self.thresholds if one.kind.startswith("scale") and one.noticed is not None]
        bounds = [f"{one.noticed:.2f} or {'more' if one.kind == 'scale-up' else 'less'}" for one in scale]
        parts += [f"update scaled by {', '.join(bounds)}"] if bounds else []
        parts += [one.text for one in self.thresholds if not one.kind.startswith("scale")]
        blind = [one.defect for one in missed]
        more = f" and {len(blind) - MOST} more" if len(blind) > MOST else ""
        return "; ".join([*parts, f"blind to: {', '.join(blind[:MOST])}{more}" if blind else "blind to none"])

    def to_dict(self) -> dict[str, Any]:
        """In plain builtins, for JSON."""
        return {
            "format": FORMAT,
            "geomcheck": VERSION,
            "suite": self.suite,
            "run": self.run,
            "path": self.path,
            "summary": self.summary,
            "checkpoints": [asdict(point) for point in self.points],
            "defects": [
                asdict(one) | {"expectation": one.expectation, "failed": list(one.failed)} for one in self.tried
            ],
            "thresholds": [asdict(one) | {"text": one.text} for one in self.thresholds],
        }
