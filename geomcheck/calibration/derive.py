"""Calibrate: measure good runs, choose what is stable across them, and put a band around it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from geomcheck.api import RunOrRecord, records_of
from geomcheck.calibration import choice
from geomcheck.calibration.calibration import Calibrated, Calibration, Omitted, PlacedBand
from geomcheck.calibration.runs import common_places, require_comparable, told
from geomcheck.calibration.statistics import BandRule, Repeatability, Spread
from geomcheck.checkpoints import BaseWeights
from geomcheck.diagnostics import Metric
from geomcheck.errors import UsageError
from geomcheck.record import Record
from geomcheck.suite.language.places import Place, Places
from geomcheck.suite.language.selection import DEFAULT, Selection
from geomcheck.suite.verdict import Unanswerable

FEW = 3
"""Below this number of runs the spread between runs is hardly known."""

ROUNDING = 1e-6
"""By which a band is wider on either side, of the mean: a figure that cannot vary still has rounding errors."""

WHOLE_RANGE = "its band would cover the whole range of the figure and could not fail: too few runs for their spread"


TOO_FEW = "{} runs say little about how runs differ: the bands are very wide; calibrate on 3 or more"


def calibrate(
    runs: Sequence[RunOrRecord],
    *,
    base: BaseWeights | str | Path | None = None,
    rule: BandRule | None = None,
    metrics: Sequence[str] | None = None,
    weights: Selection = DEFAULT,
    at: Sequence[Place] = (),
    name: str = "calibrated",
    applies_to: Sequence[str] = (),
    across_bases: bool = False,
    workers: int | None = None,
) -> Calibration:
    """Bands for the next run of a recipe, from good runs of it that differ in nothing but chance.

    Args:
        runs: two or more: opened, directories, records or record files.
        base: W0 of the runs that are measured; by default what each run provides.
        rule: from the spread of the runs to a band; default `Repeatability()`, which lets at most 5% of fresh
            runs leave any band of the suite.
        metrics: names; by default all that are stable across the runs and say something of their own.
        weights: figures are folded over these.
        at: the checkpoints; by default every one.
        name: of the suite, a slug.
        applies_to: patterns of the names of runs that the suite is for; by default all.
        across_bases: whether the runs may start from different W0 (a recipe that draws its own base).

    Raises:
        UsageError: fewer than two runs, runs that cannot be calibrated together, or nothing to calibrate.
        RunError: a run cannot be read or trusted.
    """
    if len(runs) < 2:
        raise UsageError(f"calibration needs two runs or more, best five; {len(runs)} given")
    wanted = choice.candidates(metrics)
    records = records_of(runs, base=base, metrics=[m.name for m in wanted], weights=weights, workers=workers)
    require_comparable(records, weights, across_bases=across_bases)
    places = common_places(records, at)
    found, left_out = _spreads(wanted, records, weights, places, chosen_by_hand=metrics is not None)
    rule = rule or Repeatability()
    count = max(1, sum(not spread.constant for by_place in found.values() for spread in by_place.values()))
    expectations = []
    for metric in (metric for metric in wanted if metric.name in found):
        bands, idle = _bands(found[metric.name], places, rule, count, _limit(metric, records, weights))
        if idle:
            left_out.append(Omitted(f"{metric.name} at {', '.join(idle)}" if bands else metric.name, WHOLE_RANGE))
        if bands:
            expectations.append(Calibrated(metric, metric.defaults, bands))
    if not expectations:
        reasons = "\n".join(f"  {left.metric}: {left.reason}" for left in left_out)
        raise UsageError(f"nothing can be calibrated from these {len(records)} runs:\n{reasons}")
    return Calibration(
        name=name,
        applies_to=tuple(applies_to),
        runs=tuple(map(told, records)),
        base="" if across_bases else records[0].fingerprints.get("W0", ""),
        weights=weights,
        count=len(weights.select(records[0].weights)),
        storage=_storage(records[0], weights),
        rule=rule,
        bands=count,
        expectations=tuple(expectations),
        left_out=tuple(left_out),
        warnings=(TOO_FEW.format(len(records)),) if len(records) < FEW else (),
    )


def _spreads(
    wanted: Sequence[Metric], records: Sequence[Record], weights: Selection, places: Places, *, chosen_by_hand: bool
) -> tuple[dict[str, Mapping[int, Spread]], list[Omitted]]:
    """The spreads of the metrics that the suite will hold, by name, and the others with the reason."""
    found: dict[str, Mapping[int, Spread]] = {}
    left_out = []
    for metric in wanted:
        try:
            found[metric.name] = choice.spreads(metric, records, weights, places)
        except Unanswerable as error:
            left_out.append(Omitted(metric.name, str(error)))
    if chosen_by_hand:
        return found, left_out
    unstable = {name: reason for name, by_place in found.items() if (reason := _unstable(by_place))}
    stable = found.keys() - unstable.keys()
    for metric in (metric for metric in wanted if metric.name in found):
        reason = unstable.get(metric.name) or choice.follows(metric, stable)
        if reason:
            left_out.append(Omitted(metric.name, reason))
            del found[metric.name]
    return found, left_out


def _unstable(by_place: Mapping[int, Spread]) -> str | None:
    """Why a metric is not stable across the runs, or None."""
    worst = max(spread.relative for spread in by_place.values())
    if worst <= choice.STABLE:
        return None
    return f"it is not stable across the runs: they vary by {worst:.1%} of the mean (at most {choice.STABLE:.0%})"


def _limit(metric: Metric, records: Sequence[Record], weights: Selection) -> tuple[float, float]:
    """The range of the figure for these weights."""
    lows, highs = zip(*(metric.range({}, weight.shape) for weight in weights.select(records[0].weights)), strict=True)
    return min(lows), max(highs)


def _bands(
    by_place: Mapping[int, Spread], places: Places, rule: BandRule, count: int, limit: tuple[float, float]
) -> tuple[tuple[PlacedBand, ...], list[str]]:
    """The bands, within the figure's range `limit`, and the places where one would cover it and could not fail."""
    placed, idle = [], []
    for index, spread in by_place.items():
        place, rounding = places.places[index], ROUNDING * abs(spread.mean)
        low, high = (spread.low, spread.high) if spread.constant else rule.band(spread, bands=count)
        low, high = max(low - rounding, limit[0]), min(high + rounding, limit[1])
        if (low, high) == limit:
            idle.append(place.text)
        else:
            placed.append(PlacedBand(place, low, high, spread))
    return tuple(placed), idle


def _storage(record: Record, weights: Selection) -> tuple[str, ...]:
    """Formats of W0 and of the run, where all weights agree on them; else nothing."""
    formats = {weight.dtypes for weight in weights.select(record.weights)}
    return formats.pop() if len(formats) == 1 else ()
