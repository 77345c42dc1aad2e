"""A band for each of several checkpoints: ``bands``, as `geomcheck calibrate` writes them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from geomcheck.diagnostics import Metric, Unit
from geomcheck.record import Point
from geomcheck.suite.conditions import wording
from geomcheck.suite.conditions.band import Band, within
from geomcheck.suite.conditions.figure import Case, FigureCondition, Key, unless_finite, value_of
from geomcheck.suite.expectation import Finding
from geomcheck.suite.language.fields import PROGRESS_SCHEMA, STEP_SCHEMA, pair_schema
from geomcheck.suite.language.places import At, Place, Places, parse_place
from geomcheck.suite.language.quantities import Quantity, Refusal, Scale, quantity_pair, spelled
from geomcheck.suite.verdict import Observed, Unanswerable

_FORM = "`{step: 30, within: [low, high]}` or `{progress: 20%, within: [low, high]}`"


def _read(raw: Any, unit: Unit) -> list[tuple[Place, tuple[Quantity, Quantity]]]:
    if not isinstance(raw, list) or not raw:
        raise Refusal(f"expected a list of {_FORM}; found {spelled(raw)}")
    found: dict[Place, tuple[Quantity, Quantity]] = {}
    for index, entry in enumerate(raw):
        if not isinstance(entry, dict) or "within" not in entry:
            raise Refusal(f"expected {_FORM}; found {spelled(entry)}", path=(index,))
        with Refusal.at(index):
            place = parse_place({key: value for key, value in entry.items() if key != "within"})
        if place in found:
            raise Refusal(f"{place.text} has two bands; keep one", path=(index,))
        with Refusal.at(index, "within"):
            found[place] = quantity_pair(entry["within"], unit)
    return list(found.items())


def _schema(metric: Metric) -> dict[str, Any]:
    band = {**pair_schema(metric), "description": "The band at this checkpoint."}
    entry = [
        {
            "type": "object",
            "properties": {**place, "within": band},
            "required": [*place, "within"],
            "additionalProperties": False,
        }
        for place in (STEP_SCHEMA, PROGRESS_SCHEMA)
    ]
    return {"type": "array", "items": {"anyOf": entry}, "minItems": 1}


@dataclass(frozen=True)
class Bands(FigureCondition):
    """At each of several checkpoints the figure lies in that checkpoint's own band, bounds included.

    Attributes:
        places: the checkpoints.
        bands: theirs, in the same order.
        scale: how figures are shown.
    """

    places: Places
    bands: tuple[Band, ...]
    scale: Scale

    keyword = "bands"
    keys = (
        Key(
            name="bands",
            about="At each of these checkpoints the figure lies in that checkpoint's band.",
            read=_read,
            schema=_schema,
        ),
    )

    @classmethod
    def quantities(cls, given: Mapping[str, Any]) -> Iterable[Quantity]:
        return [edge for _, pair in given["bands"] for edge in pair]

    @classmethod
    def of(cls, given: Mapping[str, Any], tolerance: Any, unit: Unit, scale: Scale) -> Self:
        places = Places(tuple(place for place, _ in given["bands"]))
        return cls(places, tuple(within(low, high, scale) for _, (low, high) in given["bands"]), scale)

    @property
    def percent(self) -> bool:
        return self.scale.percent

    @property
    def own_places(self) -> Places:
        return self.places

    @property
    def text(self) -> str:
        return "its checkpoint's band"

    def fault(self, low: float, high: float, count: int | None = None) -> str | None:
        for place, band in zip(self.places.places, self.bands, strict=True):
            fault = band.fault(low, high)
            if fault:
                return f"at {place.text}, `{band.text}`, {fault}"
        return None

    def contradictions(self, at: At, metric: Metric, params: Mapping[str, Any]) -> Iterable[Refusal]:
        if metric.trivial_at is None:
            return
        other = parse_place(params[metric.trivial_at], previous=True)
        if other in self.places.places:
            yield Refusal(
                f"{metric.name} at {other.text} with `{metric.trivial_at}: {other.text}` compares a checkpoint with "
                "itself; remove its band",
                path=("bands",),
            )

    def by_step(self, points: Sequence[Point]) -> Mapping[int, Band]:
        """The band of each checkpoint that has one. Raises Unanswerable where the run lacks one of them."""
        steps = [point.step for point in self.places.locate(points)]
        return dict(zip(steps, self.bands, strict=True))

    def find(self, case: Case) -> Finding:
        by_step, expectation = self.by_step(case.record.points), case.expectation
        fixed = sorted(by_step.keys() - case.found.cells.keys())
        if fixed:
            raise Unanswerable(
                f"{expectation.metric} has no figure at step {fixed[0]}: it is fixed there; remove its band"
            )
        observed = tuple(
            Observed(step, group, value, by_step[step].holds(value), band=(by_step[step].low, by_step[step].high))
            for step, group, value in case.figures()
        )
        extreme = max(observed, key=lambda o: by_step[o.step].relative_offence(value_of(o)))
        band = by_step[extreme.step]
        sentence = wording.in_band(expectation, observed, extreme, band, len(case.found.used))
        return Finding(
            wording.within_allowance(observed, expectation.allow),
            f"{sentence}; the band of step {extreme.step} is {band.text}",
            observed,
            extreme,
            case.worst(extreme.step, lambda _name, value: band.offence(value)),
            side=band.side(value_of(extreme)),
            meaning=unless_finite(value_of(extreme)),
        )

    def so_far(self, reached: Callable[[Place], bool]) -> Self | None:
        come = [pair for pair in zip(self.places.places, self.bands, strict=True) if reached(pair[0])]
        if not come:
            return None
        return replace(self, places=Places(tuple(p for p, _ in come)), bands=tuple(band for _, band in come))
