"""Calibrate: measure good runs, choose what is stable across them, and put a band around it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Unpack

from geomcheck.api import How, RunOrRecord, records_of
from geomcheck.calibration.calibration import Calibrated, Calibration, Omitted, PlacedBand
from geomcheck.calibration.normal import MAX_CHARACTERS, normal_of
from geomcheck.calibration.runs import common_places, require_comparable, told
from geomcheck.calibration.statistics import BandRule, Repeatability, Spread
from geomcheck.checkpoints import BaseWeights
from geomcheck.diagnostics import Metric, load_metrics
from geomcheck.errors import RecordError, UsageError
from geomcheck.record import Record
from geomcheck.suite.conditions.trains import WORDS_FOR_MATRICES, Trains
from geomcheck.suite.folds import fold
from geomcheck.suite.language.names import metric_hint
from geomcheck.suite.language.places import Place, Places
from geomcheck.suite.language.selection import DEFAULT, Selection
from geomcheck.suite.sampling import default_sample
from geomcheck.suite.verdict import Unanswerable

FEW = 3
"""Below this number of runs the spread between runs is hardly known."""

SIZE = "relative_update_norm"
BESIDE = ("norms", "embeddings", "heads")
"""Beside linear maps, what is looked at of which tensors."""

STABLE = 0.15
"""Largest sd / |mean|, at any checkpoint, of a metric that is stable across runs."""

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
    **how: Unpack[How],
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
        how: workers, device, cache and the like of `geomcheck.measure`.

    Raises:
        UsageError: fewer than two runs, runs that cannot be calibrated together, or nothing to calibrate.
        RunError: a run cannot be read or trusted.
    """
    if len(runs) < 2:
        raise UsageError(f"calibration needs two runs or more, best five; {len(runs)} given")
    wanted = _candidates(metrics)
    looks_beside = metrics is None and weights == DEFAULT
    entries = [SIZE] if looks_beside else []
    records = records_of(runs, base=base, metrics=[m.name for m in wanted], weights=weights, entries=entries, **how)
    require_comparable(records, weights, across_bases=across_bases)
    places = common_places(records, at)
    found, left_out = _spreads(wanted, records, weights, places, chosen_by_hand=metrics is not None)
    rule = rule or Repeatability()
    at_end = Places(places.places[-1:])
    beside = dict(_beside(records, at_end)) if looks_beside else {}
    spreads = [spread for by_place in (*found.values(), *beside.values()) for spread in by_place.values()]
    count = max(1, sum(not spread.constant for spread in spreads))
    expectations = []
    for metric in (metric for metric in wanted if metric.name in found):
        bands, idle = _bands(found[metric.name], places, rule, count, _limit(metric, records, weights))
        if idle:
            left_out.append(Omitted(f"{metric.name} at {', '.join(idle)}" if bands else metric.name, WHOLE_RANGE))
        if bands:
            varies = not all(band.spread.constant for band in bands)
            there = Places(tuple(band.place for band in bands))
            normal = normal_of(metric, records, weights, there) if varies else None
            expectations.append(Calibrated(metric, bands, normal))
    if not expectations:
        reasons = "\n".join(f"  {left.metric}: {left.reason}" for left in left_out)
        raise UsageError(f"nothing can be calibrated from these {len(records)} runs:\n{reasons}")
    for role, spread in beside.items():
        bands, _ = _bands(spread, at_end, rule, count, load_metrics()[SIZE].range({}))
        expectations += [Calibrated(load_metrics()[SIZE], bands, of=role)] if bands else []
    used = weights.select(records[0].weights)
    formats = {weight.dtypes for weight in used}
    return Calibration(
        name=name,
        applies_to=tuple(applies_to),
        runs=tuple(map(told, records)),
        base="" if across_bases else records[0].fingerprints.get("W0", ""),
        weights=weights,
        count=len(used),
        storage=formats.pop() if len(formats) == 1 else (),
        rule=rule,
        bands=count,
        expectations=tuple(_readable(expectations)),
        left_out=tuple(left_out),
        trains=_trained(records) if looks_beside else "",
        warnings=(TOO_FEW.format(len(records)),) if len(records) < FEW else (),
    )


def _beside(records: Sequence[Record], at_end: Places) -> Iterator[tuple[str, dict[int, Spread]]]:
    """The spread of the relative size of the update at the end, of tensors that are no linear maps, by the word for
    them; of those that have one in every run, and a stable one."""
    for role in BESIDE:
        try:
            spread = _spread(load_metrics()[SIZE], records, Selection(role), at_end)
        except Unanswerable:
            continue
        if all(one.relative <= STABLE for one in spread.values()):
            yield role, spread


def _trained(records: Sequence[Record]) -> str:
    """The word for the tensors that moved in every run, while no others did; empty where there is none."""
    for role in ("everything", *WORDS_FOR_MATRICES):
        with suppress(Unanswerable, RecordError):
            if all(Trains(Selection(role)).holds(record) for record in records):
                return role
    return ""


def _readable(expectations: Sequence[Calibrated]) -> Iterator[Calibrated]:
    """The same, without what is normal for single weights where that would be no text that people open."""
    size = sum(len(expectation.normal.text) for expectation in expectations if expectation.normal)
    for expectation in expectations:
        yield expectation if size <= MAX_CHARACTERS else replace(expectation, normal=None)


def _candidates(names: Sequence[str] | None) -> list[Metric]:
    """The metrics called `names`; by default all that need no reference run.

    Raises:
        UsageError: there is no such metric, or it compares with a reference run.
    """
    known = load_metrics()
    if names is None:
        return [metric for metric in known if metric.measured_by_default]
    for name in names:
        if name not in known:
            raise UsageError(f"no metric is called {name!r}{metric_hint(name)}")
        if known[name].against_reference:
            raise UsageError(f"{name} compares with a reference run, so runs by themselves say nothing about it")
    return [known[name] for name in dict.fromkeys(names)]


def _spreads(
    wanted: Sequence[Metric], records: Sequence[Record], weights: Selection, places: Places, *, chosen_by_hand: bool
) -> tuple[dict[str, Mapping[int, Spread]], list[Omitted]]:
    """The spreads of the metrics that the suite will hold, by name, and the others with the reason."""
    found: dict[str, Mapping[int, Spread]] = {}
    left_out = []
    for metric in wanted:
        try:
            found[metric.name] = _spread(metric, records, weights, places)
        except Unanswerable as error:
            left_out.append(Omitted(metric.name, str(error)))
    if chosen_by_hand:
        return found, left_out
    worst = {name: max(spread.relative for spread in by_place.values()) for name, by_place in found.items()}
    stable = {name for name, relative in worst.items() if relative <= STABLE}
    for metric in (metric for metric in wanted if metric.name in found):
        told_by = metric.follows
        if metric.name not in stable:
            by = f"they vary by {worst[metric.name]:.1%} of the mean (at most {STABLE:.0%})"
            left_out.append(Omitted(metric.name, f"it is not stable across the runs: {by}"))
        elif told_by and (not told_by.leader or told_by.leader in stable):
            left_out.append(Omitted(metric.name, told_by.why))
        else:
            continue
        del found[metric.name]
    return found, left_out


def _spread(metric: Metric, records: Sequence[Record], weights: Selection, places: Places) -> dict[int, Spread]:
    """The spread of a metric over `records`, by index into `places`; without places where it is fixed by definition.

    Raises:
        Unanswerable: it has no figure in one of the runs.
    """
    by_run = [_figures(metric, record, weights, places) for record in records]
    indices = sorted(set(by_run[0]).intersection(*by_run))
    if not indices:
        raise Unanswerable("it is fixed by definition at every calibrated checkpoint")
    return {index: Spread.of([figures[index] for figures in by_run]) for index in indices}


def _figures(metric: Metric, record: Record, weights: Selection, places: Places) -> dict[int, float]:
    """The folded figures of one run, as an expectation would fold them, by index into `places`."""
    found = default_sample(metric, record, weights, places)
    cells = [found.cells.get(point.step) for point in places.locate_all(record.points)]
    return {index: fold(cell, metric.fold, found.used) for index, cell in enumerate(cells) if cell is not None}


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
