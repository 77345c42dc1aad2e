"""Every weight by itself, held against what good runs had: ``normal``, as `geomcheck calibrate` writes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from geomcheck.diagnostics import Unit
from geomcheck.suite.conditions import wording
from geomcheck.suite.conditions.band import Band
from geomcheck.suite.conditions.figure import Case, FigureCondition, Key
from geomcheck.suite.expectation import Finding
from geomcheck.suite.language.fields import word, word_schema
from geomcheck.suite.language.places import At, Place, Places, no_checkpoint_at
from geomcheck.suite.language.quantities import Scale
from geomcheck.suite.normal import Normal
from geomcheck.suite.verdict import Observed, Unanswerable

OWN_RANGE = "each weight's own range"

WORDS = {"each weight": "Every weight is within its own range, at every checkpoint that has one."}


@dataclass(frozen=True)
class Parts(FigureCondition):
    """The figure of every weight lies in the weight's own range, at every checkpoint for which there is one.

    The ranges are those under `normal` at the top of the suite, of this expectation or of one of the same figures.
    """

    scale: Scale

    keyword = "normal"
    folds = False
    by_layer = False
    keys = (
        Key(
            "normal",
            "Every weight lies in its own range, one of those that stand under `normal` at the end of the suite.",
            lambda raw, _unit: word(raw, WORDS),
            lambda _metric: word_schema(WORDS),
            ("each_weight", "every_weight", "parts"),
        ),
    )

    @classmethod
    def of(cls, given: Mapping[str, Any], tolerance: Any, unit: Unit, scale: Scale) -> Self:
        return cls(scale)

    @property
    def percent(self) -> bool:
        return self.scale.percent

    @property
    def text(self) -> str:
        return OWN_RANGE

    def find(self, case: Case) -> Finding:
        normal = case.expectation.normal
        if normal is None:
            raise Unanswerable(
                "the suite has no ranges of these figures under `normal`; `geomcheck calibrate` writes them"
            )
        bands = self._bands(case, normal)
        observed = tuple(
            Observed(step, name, value, band.holds(value), band=(band.low, band.high))
            for step, ranges in bands.items()
            for name, value in case.found.cells[step].items()
            for band in (ranges[name],)
        )
        extreme = max(observed, key=lambda o: bands[o.step][o.group or ""].relative_offence(o.value))
        ranges = bands[extreme.step]
        band = ranges[extreme.group or ""]
        of_weights = replace(case.expectation, per="weight")
        wrong = not extreme.holds
        told = f"{wording.groups(of_weights, observed)}, furthest" if wrong else f"all {len(ranges)}, nearest"
        value = wording.against(extreme.value, (band.low, band.high), self.scale)
        finding = case.in_band(observed, extreme, band, offence=lambda name, value: ranges[name].offence(value))
        place = f"{extreme.group} at step {extreme.step}, {value} (normal {band.text})"
        message = f"{wording.subject(of_weights, observed)} {self.text} in {told}: {place}"
        worst = tuple(replace(one, normal=(ranges[one.weight].low, ranges[one.weight].high)) for one in finding.worst)
        lacking, between = self._without_range(case, normal, [*bands])
        return replace(finding, message=message, worst=worst, lacking=lacking, warnings=(*finding.warnings, *between))

    def _without_range(
        self, case: Case, normal: Normal, judged: Sequence[int]
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """What was not judged: checkpoints that have ranges and that the run lacks, or that it has after the last that
        was `judged`; and those that it has before that."""
        points, at = case.record.points, case.expectation.at
        absent = [place for place in normal.places.lacking(points) if _is_meant(at, place)]
        lacking = [no_checkpoint_at(absent, points)] if absent else []
        other = [step for step in case.found.cells if step not in judged]
        last = max(judged)
        beyond, between = ([step for step in other if (step > last) == late] for late in (True, False))
        if beyond:
            lacking.append(f"no range judges step {', '.join(map(str, beyond))}: the last is that of step {last}")
        return tuple(lacking), (f"no range judges step {', '.join(map(str, between))}",) if between else ()

    def _bands(self, case: Case, normal: Normal) -> dict[int, dict[str, Band]]:
        """The range of every weight, by checkpoint. Raises Unanswerable where a weight has none, or no checkpoint."""
        points = case.record.points
        found = {}
        for step, cells in case.found.cells.items():
            ranges = normal.at(step, points)
            if ranges and (unknown := sorted(cells.keys() - ranges.keys())):
                raise Unanswerable(f"{unknown[0]} has no range under `normal`, at step {step}; calibrate again")
            if ranges:
                found[step] = {name: self._band(*ranges[name]) for name in cells}
        if not found:
            raise Unanswerable("no checkpoint of the run is one of those that ranges stand for under `normal`")
        return found

    def _band(self, low: float, high: float) -> Band:
        text = f"{self.scale.show(low)} to {self.scale.show(high)}"
        return Band(text, low, high, strict=False, scale=self.scale)


def _is_meant(at: At | Places, place: Place) -> bool:
    """Whether a checkpoint that the run lacks may be one of those that are to be judged."""
    if not isinstance(at, At) or at.single:
        return False
    step, start, stop = place.step, at.start.step, at.stop.step
    return step is None or ((start is None or step >= start) and (stop is None or step <= stop))
