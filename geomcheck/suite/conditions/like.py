"""Comparison with a reference run at matching progress: ``like`` and ``unlike``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from geomcheck.diagnostics import Unit
from geomcheck.suite.conditions import wording
from geomcheck.suite.conditions.band import Band, Offence, near
from geomcheck.suite.conditions.companion import companion_of
from geomcheck.suite.conditions.figure import NO_OFFENCE, Case, FigureCondition, Key, read_tolerance, unless_finite
from geomcheck.suite.expectation import Finding
from geomcheck.suite.language.fields import word, word_schema
from geomcheck.suite.language.quantities import Quantity, Scale, Tolerance
from geomcheck.suite.verdict import Observed, Side, Unanswerable

REFERENCES = {"reference": "The run or record of --geom-reference, at the checkpoint of the same progress."}


def _key(name: str, about: str) -> Key:
    return Key(name, about, lambda raw, _unit: word(raw, REFERENCES), lambda _metric: word_schema(REFERENCES))


@dataclass(frozen=True)
class Like(FigureCondition):
    """A figure is close to the reference run's at matching progress."""

    tolerance: Tolerance
    scale: Scale

    keyword = "like"
    tolerant = True
    by_progress = True
    keys = (_key("like", "Compare with the reference run at matching progress."),)

    @classmethod
    def of(cls, given: Mapping[str, Any], tolerance: Any, unit: Unit, scale: Scale) -> Self:
        return cls(read_tolerance(tolerance, unit), scale)

    @property
    def percent(self) -> bool:
        return self.scale.percent

    @property
    def compares(self) -> bool:
        return True

    @property
    def text(self) -> str:
        return f"reference +- {self.scale.show_tolerance(self.tolerance)}"

    def fault(self, low: float, high: float, count: int | None = None) -> str | None:
        covers = self._covers(low, high)
        return "cannot fail: the tolerance covers the whole range of the figure" if covers else None

    def around(self, reference: float) -> Band:
        """The band around the reference's figure."""
        return near(Quantity(reference), self.tolerance, self.scale)

    def offence(self, value: float, reference: float) -> Offence:
        """Whether `value` is on the wrong side, and how far; what is not finite is on the wrong side."""
        return self.around(reference).offence(value)

    def find(self, case: Case) -> Finding:
        if case.reference is None:
            raise Unanswerable(
                f"`{self.keyword}: reference` needs a reference run; give one with --geom-reference=PATH"
            )
        expectation = case.expectation
        companion = companion_of(expectation, case.question, case.record, case.reference, case.found)

        def observe(step: int, group: str | None, value: float) -> Observed:
            theirs = companion.figure(step, group)
            return Observed(step, group, value, not self.offence(value, theirs)[0], theirs)

        def weight_offence(name: str, value: float) -> Offence:
            other = companion.cells[companion.matched[extreme.step].step].get(name)
            return NO_OFFENCE if other is None else self.offence(value, other)

        observed = tuple(observe(*figure) for figure in case.figures())
        extreme = max(observed, key=lambda o: self.offence(o.value, _reference(o)))
        theirs, match = _reference(extreme), companion.matched[extreme.step]
        held = wording.within_allowance(observed, expectation.allow)
        sentence = wording.in_band(
            expectation, observed, extreme, self.around(theirs), len(case.found.used), verb=self._verb(held)
        )
        return Finding(
            held,
            f"{sentence}; the reference has {self.scale.show(theirs)} at step {match.step}",
            observed,
            extreme,
            case.worst(extreme.step, weight_offence),
            companion.warnings,
            side=self._side(extreme.value, theirs),
            meaning=self._meaning(extreme.value),
        )

    def _covers(self, low: float, high: float) -> bool:
        return not self.tolerance.relative and self.tolerance.amount >= high - low

    def _verb(self, held: bool) -> str:
        return "keeps" if held else "left"

    def _side(self, value: float, reference: float) -> Side | None:
        return ("above" if value > reference else "below") if math.isfinite(value) else None

    def _meaning(self, value: float) -> str:
        return unless_finite(value)


class Unlike(Like):
    """A figure differs from the reference run's at matching progress by more than the tolerance."""

    keyword = "unlike"
    keys = (_key("unlike", "Differ from the reference run at matching progress by more than `tolerance`."),)

    @property
    def text(self) -> str:
        return f"outside {super().text}"

    def fault(self, low: float, high: float, count: int | None = None) -> str | None:
        if self.tolerance.amount == 0:
            return "almost always holds: any difference satisfies it; give a tolerance above 0"
        covers = self._covers(low, high)
        return "can never hold: the tolerance covers the whole range of the figure" if covers else None

    def offence(self, value: float, reference: float) -> Offence:
        if not (math.isfinite(value) and math.isfinite(reference)):
            return True, math.inf
        wrong, far = super().offence(value, reference)
        return not wrong, -far

    def _verb(self, held: bool) -> str:
        return "is" if held else "is not"

    def _side(self, value: float, reference: float) -> Side | None:
        return None

    def _meaning(self, value: float) -> str:
        return "The run follows the reference more closely than it should."


def _reference(observed: Observed) -> float:
    return math.nan if observed.reference is None else observed.reference
