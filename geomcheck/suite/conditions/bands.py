"""A band for each of several checkpoints: ``bands``, as `geomcheck calibrate` writes them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from geomcheck.diagnostics import Metric, Unit
from geomcheck.suite.conditions.band import Band, within
from geomcheck.suite.conditions.figure import Case, FigureCondition, Key
from geomcheck.suite.conditions.limits import Demand
from geomcheck.suite.conditions.wording import between
from geomcheck.suite.expectation import Finding
from geomcheck.suite.language.fields import pair_schema, place_objects
from geomcheck.suite.language.places import At, Place, Places, parse_place
from geomcheck.suite.language.quantities import Quantity, Refusal, Refusals, Scale, quantity_pair, spelled
from geomcheck.suite.verdict import Observed

_FORM = "`{step: 30, within: [low, high]}` or `{progress: 20%, within: [low, high]}`"


def _read(raw: Any, unit: Unit) -> dict[Place, tuple[Quantity, Quantity]]:
    if not isinstance(raw, list) or not raw:
        raise Refusal(f"expected a list of {_FORM}; found {spelled(raw)}{_meant(raw)}")
    found: dict[Place, tuple[Quantity, Quantity]] = {}
    with Refusals() as refusals:
        for index, entry in enumerate(raw):
            with refusals.at(index):
                place, pair = _entry(entry, unit)
                if place in found:
                    raise Refusal(f"{place.text} has two bands; keep one")
                found[place] = pair
    return found


def _entry(entry: Any, unit: Unit) -> tuple[Place, tuple[Quantity, Quantity]]:
    if not isinstance(entry, dict) or "within" not in entry or len(entry) != 2:
        keys = f" with {' and '.join(f'`{key}`' for key in entry)}" if isinstance(entry, dict) and entry else ""
        raise Refusal(f"expected {_FORM}; found {spelled(entry)}{keys}{_meant_entry(entry)}")
    with Refusals() as refusals:
        with refusals.at():
            place = parse_place(
                {key: value for key, value in entry.items() if key != "within"}, allowed="`step` or `progress`"
            )
        with refusals.at("within"):
            pair = quantity_pair(entry["within"], unit)
    return place, pair


def _meant_entry(entry: Any) -> str:
    flat = isinstance(entry, list) and len(entry) == 3 and not any(isinstance(part, list | dict) for part in entry)
    return f"; did you mean `{{step: {entry[0]}, within: [{entry[1]}, {entry[2]}]}}`?" if flat else ""


def _meant(raw: Any) -> str:
    """The first entry of bands that are written as a mapping from steps to pairs."""
    if isinstance(raw, dict) and "within" in raw:
        return "; put it between `[` and `]`"
    step, pair = next(iter(raw.items())) if isinstance(raw, dict) and raw else ("", None)
    if not (str(step).isdigit() and isinstance(pair, list) and len(pair) == 2):
        return ""
    return f"; write `- {{step: {step}, within: [{pair[0]}, {pair[1]}]}}`, a line for each step"


def _schema(metric: Metric) -> dict[str, Any]:
    band = {**pair_schema(metric), "description": "The band at this checkpoint."}
    return {"type": "array", "items": {"anyOf": place_objects(within=band)}, "minItems": 1}


@dataclass(frozen=True)
class Bands(FigureCondition):
    """At each of several checkpoints the figure lies in that checkpoint's own band, bounds included.

    Attributes:
        bands: by checkpoint.
        scale: how figures are shown.
    """

    bands: Mapping[Place, Band]
    scale: Scale

    keyword = "bands"
    keys = (
        Key(
            "bands",
            "At each of these checkpoints the figure lies in that checkpoint's band.",
            _read,
            _schema,
            ("per_step", "by_step", "schedule", "steps_within", "ranges"),
        ),
    )

    @classmethod
    def demands(cls, given: Mapping[str, Any]) -> Iterable[Demand]:
        for index, (low, high) in enumerate(given["bands"].values()):
            yield Demand(("bands", index, "within", 0), low, "lower")
            yield Demand(("bands", index, "within", 1), high, "upper")

    @classmethod
    def of(cls, given: Mapping[str, Any], tolerance: Any, unit: Unit, scale: Scale) -> Self:
        return cls({place: within(low, high, scale) for place, (low, high) in given["bands"].items()}, scale)

    @property
    def percent(self) -> bool:
        return self.scale.percent

    @property
    def own_places(self) -> Places:
        return Places(tuple(self.bands))

    @property
    def text(self) -> str:
        words = [f"{between(band.bounds, self.scale)} at {place.text}" for place, band in self.bands.items()]
        return ", ... ".join([words[0], words[-1]]) if len(words) > 2 else ", ".join(words)

    @property
    def called(self) -> str:
        return "its band"

    def fault(self, low: float, high: float, count: int | None = None) -> str | None:
        for place, band in self.bands.items():
            fault = band.fault(low, high)
            if fault:
                return f"at {place.text}, `{band.text}`, {fault}"
        return None

    def slack(self, low: float, high: float) -> str | None:
        sentences = ((place, band.slack(low, high)) for place, band in self.bands.items())
        return next((f"at {place.text}, {slack}" for place, slack in sentences if slack), None)

    def contradictions(self, at: At, metric: Metric, params: Mapping[str, Any]) -> Iterable[Refusal]:
        place = metric.places(params).get(metric.trivial_at or "")
        other = None if place is None else parse_place(place, others=("previous",))
        if other is not None and other in self.bands:
            yield Refusal(
                f"{metric.name} at {other.text} with `{metric.trivial_at}: {other.text}` compares a checkpoint with "
                "itself; remove its band",
                path=("bands",),
            )

    def find(self, case: Case) -> Finding:
        located = self.own_places.locate(case.record.points)
        by_step = {point.step: self.bands[place] for place, point in located.items()}
        observed = tuple(
            Observed(step, group, value, by_step[step].holds(value), band=(by_step[step].low, by_step[step].high))
            for step, group, value in case.figures()
        )
        extreme = max(observed, key=lambda o: by_step[o.step].relative_offence(o.value))
        band = by_step[extreme.step]
        return case.in_band(
            observed, extreme, band, further=f"; that of step {extreme.step} is {between(band.bounds, band.scale)}"
        )

    def so_far(self, reached: Callable[[Place], bool]) -> Self | None:
        come = {place: band for place, band in self.bands.items() if reached(place)}
        return replace(self, bands=come) if come else None
