"""Calibrate: measure good runs, choose what is stable across them, and put a band around it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Unpack

from geomcheck.api import How, RunOrRecord, records_of
from geomcheck.calibration.calibration import DIGITS, Calibrated, Calibration, Omitted
from geomcheck.calibration.figures import Gathered, expectation_id
from geomcheck.calibration.moderated import Moderated
from geomcheck.calibration.noise import shipped
from geomcheck.calibration.normal import MAX_CHARACTERS, normal_of
from geomcheck.calibration.outlier import accused, apart, outlier
from geomcheck.calibration.rules import BandRule, Range, varying
from geomcheck.calibration.runs import common_pattern, common_places, require_comparable, require_further, told
from geomcheck.calibration.spelled import rule_text
from geomcheck.calibration.statistics import PlacedBand
from geomcheck.calibration.trajectories import Trajectory, trajectory_of
from geomcheck.checkpoints import BaseWeights
from geomcheck.diagnostics import Metric, load_metrics
from geomcheck.errors import RecordError, UsageError
from geomcheck.record import Record
from geomcheck.suite.conditions.trains import WORDS_FOR_MATRICES, Trains
from geomcheck.suite.good_runs import GoodRuns
from geomcheck.suite.language.names import metric_hint
from geomcheck.suite.language.places import Place, Places
from geomcheck.suite.language.selection import DEFAULT, Selection
from geomcheck.suite.normal import Normal
from geomcheck.suite.verdict import Unanswerable

SIZE = "relative_update_norm"
BESIDE = ("norms", "embeddings", "heads")
"""Beside linear maps, what is looked at of which tensors."""

STABLE = 0.15
"""Largest sd / |mean|, at any checkpoint, of a metric that is stable across runs."""

ROUNDING = 1e-6
"""By which a band is wider on either side, of the mean: a figure that cannot vary still has rounding errors."""

WHOLE_RANGE = "its band would cover the whole range of the figure and could not fail: too few runs for their spread"
ONE = "one run says nothing about how runs differ: the bands are those of other recipes, and wide"
TWO = "two runs say little about how runs differ: the bands lean on other recipes, and are wider than those of three"


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
    keep_outlier: bool = False,
    past: GoodRuns | None = None,
    **how: Unpack[How],
) -> Calibration:
    """Bands for the next run of a recipe, from good runs of it that differ in nothing but chance.

    Args:
        runs: opened, directories, records or record files; two or more, or one where the rule is `Moderated`.
        base: W0 of the runs that are measured; by default what each run provides.
        rule: from good runs to bands; default `Moderated()`, which lets at most 5% of fresh runs leave any band of
            the suite.
        metrics: names; by default all that are stable across the runs and say something of their own.
        weights: figures are folded over these.
        at: the checkpoints; by default every one.
        name: of the suite, a slug.
        applies_to: patterns of the names of runs that the suite is for; by default what is common to the names of
            these (see `common_pattern`), or all.
        across_bases: whether the runs may start from different W0 (a recipe that draws its own base).
        keep_outlier: whether a run that differs from the others as no good run does is calibrated all the same.
        past: what a suite carries of earlier good runs, which these are added to: see `geomcheck.calibration.update`.
        how: workers, device, cache and the like of `geomcheck.measure`.

    Raises:
        UsageError: too few runs, runs that cannot be calibrated together, one that is no good run, or nothing to
            calibrate.
        RunError: a run cannot be read or trusted.
    """
    rule = rule or Moderated()
    if len(runs) + (len(past.runs) if past is not None else 0) < (1 if isinstance(rule, Moderated) else 2):
        raise UsageError(f"calibration needs two runs or more, best five; {len(runs)} given")
    wanted = _candidates(metrics)
    looks_beside = metrics is None and weights == DEFAULT
    if past is not None:
        wanted = [metric for metric in load_metrics() if expectation_id(metric) in past.figures]
        looks_beside = any(expectation_id(load_metrics()[SIZE], role) in past.figures for role in BESIDE)
    entries = [SIZE] if looks_beside else []
    records = records_of(runs, base=base, metrics=[m.name for m in wanted], weights=weights, entries=entries, **how)
    require_comparable(records, weights, across_bases=across_bases)
    if past is not None:
        require_further(records, past)
    places = common_places(records, at)
    gathered = Gathered(records, past)
    by_hand = metrics is not None or past is not None
    found, left_out = _stable(wanted, gathered, weights, places, chosen_by_hand=by_hand)
    found += _beside(gathered, Places(places.places[-1:])) if looks_beside else []
    names = [*(past.runs if past is not None else ()), *map(told, records)]
    doubts = _doubts(gathered, keep=keep_outlier)
    expectations, idle = _judged(found, rule, gathered, weights)
    left_out += idle
    if not expectations:
        reasons = "\n".join(f"  {left.metric}: {left.reason}" for left in left_out)
        raise UsageError(f"nothing can be calibrated from these {len(records)} runs:\n{reasons}")
    readable = tuple(_readable(expectations))
    sized = next((one for one in readable if one.metric.name == SIZE and one.normal is not None), None)
    sized = sized if looks_beside and not isinstance(rule, Range) else None
    if sized and sized.normal and (still := Normal.parse(sized.normal.text).idle):
        sized = None
        left_out.append(Omitted("each-weight", f"the range of {still} would reach down to 0 and could not fail"))
    good = GoodRuns.of(records, weights, across_bases=across_bases)
    used = weights.select(records[0].weights)
    formats = {weight.dtypes for weight in used}
    return Calibration(
        name=name,
        applies_to=tuple(applies_to) or common_pattern([record.run for record in records]),
        runs=tuple(names),
        base="" if across_bases else records[0].fingerprints.get("W0", ""),
        weights=weights,
        count=len(used),
        storage=formats.pop() if len(formats) == 1 else (),
        rule=rule,
        bands=max(1, varying(found)),
        expectations=readable,
        left_out=tuple(left_out),
        each_weight=sized.metric if sized else None,
        trains=_trained(records) if looks_beside else "",
        warnings=(*{1: (ONE,), 2: (TWO,)}.get(len(names), ()), *doubts),
        good=replace(good, rule=rule_text(rule), runs=tuple(names)),
        figures=gathered.found,
        words=gathered.words,
    )


def _judged(
    found: Sequence[Trajectory], rule: BandRule, gathered: Gathered, weights: Selection
) -> tuple[list[Calibrated], list[Omitted]]:
    """The metrics with their bands and what is normal for single weights, and those whose bands could not fail."""
    expectations, left_out = [], []
    alone = len(gathered.records) < 2 or gathered.past is not None
    for trajectory, ends in zip(found, rule.bands(found), strict=True):
        bands, idle = _bands(trajectory, ends)
        if idle and trajectory.places[-1].text in idle:
            bands = ()  # a run would go on beyond the last band
        if idle:
            called = trajectory.metric.name
            left_out.append(Omitted(f"{called} at {', '.join(idle)}" if bands else called, WHOLE_RANGE))
        if bands:
            varies = not (alone or trajectory.of or all(band.spread.constant for band in bands))
            normal = normal_of(trajectory.metric, gathered.records, weights, bands, shipped()) if varies else None
            expectations.append(Calibrated(trajectory.metric, bands, normal, trajectory.of))
    return expectations, left_out


def _doubts(gathered: Gathered, *, keep: bool) -> Iterator[str]:
    """A sentence on runs that are hardly good ones. Raises UsageError where one is none, unless such are to be kept."""
    found = outlier(gathered.found)
    names = [*(gathered.past.runs if gathered.past is not None else ()), *(r.path for r in gathered.records)]
    if found is None:
        return filter(None, [apart(gathered.found)])
    if keep:
        return iter([f"{accused(names, found)}; it was kept"])
    raise UsageError(
        f"{accused(names, found)}. It is no good run of this recipe: leave it out, see what is wrong with it "
        "(geomcheck diagnose), or keep it with --keep-outlier"
    )


def stable_trajectories(records: Sequence[Record], weights: Selection = DEFAULT) -> list[Trajectory]:
    """What `calibrate` would put bands around, along the training of these records."""
    gathered, places = Gathered(records), common_places(records)
    found, _ = _stable(_candidates(None), gathered, weights, places, chosen_by_hand=False)
    return found + _beside(gathered, Places(places.places[-1:]))


def _beside(gathered: Gathered, at_end: Places) -> list[Trajectory]:
    """The relative size of the update at the end, of tensors that are no linear maps; of those that have one in every
    run, and a stable one."""
    found = []
    for role in BESIDE:
        known = gathered.past is None or expectation_id(load_metrics()[SIZE], role) in gathered.past.figures
        with suppress(Unanswerable):
            found += [trajectory_of(load_metrics()[SIZE], gathered, Selection(role), at_end, of=role)] if known else []
    return [trajectory for trajectory in found if trajectory.runs == 1 or trajectory.relative <= STABLE]


def _trained(records: Sequence[Record]) -> str:
    """The word for the tensors that moved in every run, while no others did; empty where there is none."""
    for role in ("everything", *WORDS_FOR_MATRICES):
        with suppress(Unanswerable, RecordError):
            if all(Trains(Selection(role)).holds(record) for record in records):
                return role
    return ""


def _readable(expectations: Sequence[Calibrated]) -> Iterator[Calibrated]:
    """The same, with what is normal for single weights as far as that is a text that people open: the size first."""
    room = MAX_CHARACTERS
    kept = set()
    for one in sorted(expectations, key=lambda one: one.metric.name != SIZE):
        size = len(one.normal.text) if one.normal else 0
        if size <= room:
            room -= size
            kept.add(id(one))
    yield from (one if id(one) in kept else replace(one, normal=None) for one in expectations)


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


def _stable(
    wanted: Sequence[Metric], gathered: Gathered, weights: Selection, places: Places, *, chosen_by_hand: bool
) -> tuple[list[Trajectory], list[Omitted]]:
    """The metrics that the suite will hold, along the training, and the others with the reason."""
    found: dict[str, Trajectory] = {}
    left_out = []
    for metric in wanted:
        try:
            found[metric.name] = trajectory_of(metric, gathered, weights, places)
        except Unanswerable as error:
            left_out.append(Omitted(metric.name, str(error)))
    if chosen_by_hand:
        return list(found.values()), left_out
    stable = {name for name, t in found.items() if t.runs == 1 or t.relative <= STABLE}
    for metric in (metric for metric in wanted if metric.name in found):
        told_by = metric.follows
        if metric.name not in stable:
            by = f"they vary by {found[metric.name].relative:.1%} of the mean (at most {STABLE:.0%})"
            left_out.append(Omitted(metric.name, f"it is not stable across the runs: {by}"))
        elif told_by and (not told_by.leader or told_by.leader in stable):
            left_out.append(Omitted(metric.name, told_by.why))
        else:
            continue
        del found[metric.name]
    return list(found.values()), left_out


def _bands(trajectory: Trajectory, ends: Sequence[tuple[float, float]]) -> tuple[tuple[PlacedBand, ...], list[str]]:
    """The bands, within the figure's range, and the places where one would cover it and could not fail."""
    placed, idle = [], []
    for place, spread, (low, high) in zip(trajectory.places, trajectory.spreads, ends, strict=True):
        rounding = ROUNDING * abs(spread.mean)
        within = max(low - rounding, trajectory.limit[0]), min(high + rounding, trajectory.limit[1])
        if _covers(within, trajectory.limit):
            idle.append(place.text)
        else:
            placed.append(PlacedBand(place, *within, spread))
    return tuple(placed), idle


def _covers(band: tuple[float, float], limit: tuple[float, float]) -> bool:
    """Whether a band, once its ends are rounded outwards, leaves out no figure."""
    rounding = (band[1] - band[0]) / 10 ** (DIGITS - 1)
    return band[0] - rounding <= limit[0] and band[1] + rounding >= limit[1]
