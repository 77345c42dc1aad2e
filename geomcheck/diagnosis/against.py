"""A run against good runs from the same W0, weight by weight: sizes, directions and turns, and what is usual of them.

All from records: norms, and the sketches of the updates, which are linear, so that the sketch of an increment is a
difference of two, and that of an update between two checkpoints lies between theirs. What is usual is what each good
run shows against the others.

Where there are fewer than two good runs, the normal ranges of a calibrated suite tell what is usual of sizes. Of
directions they tell nothing.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from geomcheck.diagnosis.case import Case
from geomcheck.diagnostics import load_metrics
from geomcheck.diagnostics.sketch import cosines
from geomcheck.record import Record, Request, locate
from geomcheck.record.column import Table
from geomcheck.suite.likeness import start_difference
from geomcheck.suite.normal import Normal
from geomcheck.suite.rounding import rounding_shares

ROUNDED = 0.05
"""Share of the squared update that rounding explains above which a weight is not compared."""

EARLY = 0.5
"""Of the first checkpoint of a good run: before that share of its steps nothing is compared with it."""

ALONE = 0.25
"""How far the log of a size may be from a good run's where there is one of these, and what is usual is not known."""

ALONE_SPREAD = 0.1
"""Likewise, the standard deviation over weights."""

WEIGHTS = 3
"""Weights that must be compared."""

REACH, SHARED = 6.0, 3.0
"""How many standard deviations over weights a normal range reaches, as `geomcheck.calibration.normal` makes it; and how
many times what moves all weights of a run together."""


class Track(NamedTuple):
    """The updates of one record: rows are checkpoints, columns weights.

    Attributes:
        at: where the checkpoints are, in steps or in progress; ascending, shape (t,).
        norms: |D| / |W0|, shape (t, w); NaN where rounding hides it.
        updates: their sketches, times the norms; shape (t, w, sketch).
    """

    at: np.ndarray
    norms: np.ndarray
    updates: np.ndarray

    def moved_to(self, places: np.ndarray) -> Track:
        """The same at other places: NaN where it does not reach."""
        if self.at[0] == 0:
            return Track(*(part[1:] for part in self)).moved_to(places)
        at = np.concatenate([[0.0], self.at])
        updates = np.concatenate([np.zeros_like(self.updates[:1]), self.updates])
        norms, found = np.full((len(places), *self.norms.shape[1:]), np.nan), []
        for row, place in enumerate(places):
            after = min(int(np.searchsorted(at, place)), len(at) - 1)
            share = (place - at[after - 1]) / (at[after] - at[after - 1])
            reached = EARLY * self.at[0] <= place <= self.at[-1]
            found.append((1 - share) * updates[after - 1] + share * updates[after] if reached else updates[0] * np.nan)
            if reached:
                norms[row] = self._norms_between(after - 1, share, place)
        return Track(places, norms, np.stack(found))

    def _norms_between(self, after: int, share: float, place: float) -> np.ndarray:
        """By a power of the steps, as norms grow: between two checkpoints, or before the first."""
        if share == 1 or len(self.at) == 1:
            return self.norms[after] * place / self.at[after]
        one, other = (after - 1, after) if after else (0, 1)
        power = np.log(self.norms[other] / self.norms[one]) / math.log(self.at[other] / self.at[one])
        return self.norms[one] * (place / self.at[one]) ** power

    @property
    def later(self) -> np.ndarray:
        """What came after the first checkpoint, as sketches of the same shape as the updates."""
        return self.updates - self.updates[:1]

    @property
    def turns(self) -> np.ndarray:
        """Cosines of successive increments, from sketches: shape (t, w), NaN at the first checkpoint."""
        walked = np.diff(self.updates, axis=0, prepend=np.zeros_like(self.updates[:1]))
        return np.concatenate([np.full_like(self.norms[:1], np.nan), cosines(walked[1:], walked[:-1])])


class Seen(NamedTuple):
    """One run against some good ones, rows being checkpoints and columns weights.

    Attributes:
        sizes: log of the ratio of norms, against the geometric mean of the others.
        cosines: of the updates with theirs, the mean.
        turns: the cosine of an increment with the one before, less theirs.
        later_sizes, later_cosines: as `sizes` and `cosines`, of what came after the first checkpoint.
    """

    sizes: np.ndarray
    cosines: np.ndarray
    turns: np.ndarray
    later_sizes: np.ndarray
    later_cosines: np.ndarray


@dataclass(frozen=True)
class Against:
    """A run against its good runs.

    Attributes:
        case: the run.
        names: of the weights that are compared, the columns.
        runs: how many good ones.
        seen: the run against all of them; NaN where nothing is known.
        usual: each good run against the others; none where there is one, or none.
        turns: of the good runs, the mean, shape (t, w); NaN where their checkpoints are at other steps.
        growth: of good runs, the log of a weight's size at each checkpoint but the last over that at the next: shape
            (t - 1, w), below 0.
        within: of the normal ranges against which `seen` has its sizes, the widest: a relative distance; 0 where the
            sizes are against good runs.
    """

    case: Case
    names: tuple[str, ...]
    runs: int
    seen: Seen
    usual: tuple[Seen, ...]
    turns: np.ndarray
    growth: np.ndarray
    within: float = 0.0

    @property
    def knows_sizes(self) -> bool:
        """Whether it is known how far sizes usually are from each other."""
        return bool(self.usual) or self.within > 0

    @property
    def free(self) -> np.ndarray:
        """What can be judged, and no finding explains: bool, shape (t, w)."""
        explained = self.case.explained
        free = [[(name, t) not in explained for name in self.names] for t in range(len(self.case.points))]
        found: np.ndarray = np.array(free) & np.isfinite(self.seen.sizes)
        return found

    @cached_property
    def level(self) -> float:
        """How far the log of the size of a whole run usually is from 0, at the most."""
        if self.within:
            return self.within / SHARED
        each = [abs(value) for one in self.usual for value in over_weights(one.sizes)]
        known = [value for value in each if math.isfinite(value)]
        return max([*known, self.spread / 4]) if known else ALONE / 4  # few runs may agree by chance

    @cached_property
    def spread(self) -> float:
        """The usual standard deviation of log sizes over weights."""
        if self.within:
            return self.within / REACH
        return float(np.mean([_spread(one.sizes) for one in self.usual])) if self.usual else ALONE_SPREAD

    @cached_property
    def cosines(self) -> np.ndarray:
        """The usual cosine with a good run's update, shape (t, w); NaN where that is not known."""
        return _mean([one.cosines for one in self.usual]) if self.usual else np.full_like(self.seen.cosines, np.nan)

    @cached_property
    def cosine_spread(self) -> float:
        """How far the median cosine of a good run is from what is usual, at the most."""
        each = [over_weights(one.cosines - self.cosines) for one in self.usual]
        return max(filter(math.isfinite, np.abs(np.array(each)).ravel().tolist()), default=math.inf)

    @cached_property
    def turn_spread(self) -> float:
        """Likewise of the cosine of successive increments, over all checkpoints."""
        each = [abs(float(_mean(over_weights(one.turns)))) for one in self.usual]
        return max(filter(math.isfinite, each), default=math.inf)

    def missing(self, free: np.ndarray) -> float:
        """How much lower than usual the cosine of most weights is, on average over the later half of the checkpoints;
        NaN where it is not known."""
        gaps = over_weights(np.where(free, self.cosines - self.seen.cosines, np.nan))
        gaps = gaps[np.isfinite(gaps)]
        return float(gaps[len(gaps) // 2 :].mean()) if len(gaps) else math.nan

    def turned(self, free: np.ndarray) -> float:
        """How much higher than usual the cosine of successive increments is, of most weights; NaN where not known."""
        return float(_mean(over_weights(np.where(free, self.seen.turns, np.nan))))

    def cells(self, chosen: np.ndarray) -> set[tuple[str, int]]:
        """Names and checkpoints of what is chosen: bool, shape (t, w)."""
        return {(self.names[column], int(row)) for row, column in np.argwhere(chosen)}

    def evidence(self) -> str:
        """What it is based on."""
        if self.within:
            beside = ", directions with one good run" * (self.runs > 0)
            return (
                f"sizes compared with the normal ranges of {self.case.ranges_of}{beside}, in {len(self.names)} matrices"
            )
        if self.usual:
            return f"compared with {self.runs} good runs, in {len(self.names)} matrices"
        return "compared with one good run: only differences that are large for any recipe are told"


def against(case: Case) -> Against | None:
    """The run against its good runs; None where there is nothing to compare, as of other W0."""
    if "against" not in case.memory:
        case.memory["against"] = _against(case)
    found: Against | None = case.memory["against"]
    return found


def _against(case: Case) -> Against | None:
    goods = [one.record for one in case.good if start_difference(case.record, one.record) is None]
    goods = [record for record in goods if len(record.sketches.values) and record.points[-1].step]
    normal = case.normal if len(goods) < 2 else None
    if (not goods and normal is None) or (goods and not len(case.record.sketches.values)):
        return None
    records = [case.record, *goods]
    shared = set(case.weights).intersection(*map(_measured, records), *([normal.means] if normal else []))
    names = tuple(name for name in sorted(shared) if len({record.weights[name].shape for record in records}) == 1)
    if len(names) < WEIGHTS:
        return None
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)  # of empty slices: there NaN is meant
        found = _with_good(case, goods, names)
        if normal is not None:
            usual = _normal_sizes(case, normal, names)
            sizes = np.log(_track(case.record, names, by_steps=True).norms) - np.log(usual)
            seen, growth = found.seen._replace(sizes=sizes), -np.diff(np.log(usual), axis=0)
            found = replace(found, seen=seen, growth=growth, within=max(normal.within.values()))
        return found if np.isfinite(found.seen.sizes).any() else None


def _with_good(case: Case, goods: Sequence[Record], names: tuple[str, ...]) -> Against:
    """Against good runs; NaN where there are none."""
    last, first = ([record.points[end].step for record in goods] for end in (-1, 0))
    points = case.record.points
    by_steps = bool(goods) and EARLY * max(first) <= points[-1].step and points[0].step <= min(last)
    own, *tracks = (_track(record, names, by_steps=by_steps) for record in (case.record, *goods))
    alike = [len(one.at) == len(own.at) and bool((one.at == own.at).all()) for one in tracks]
    others = [one.moved_to(own.at) for one in tracks]
    turns = _mean([one.turns for one in others]) if others and all(alike) else np.full_like(own.norms, np.nan)
    unknown = Track(own.at, own.norms * np.nan, own.updates * np.nan)
    return Against(
        case,
        names,
        len(goods),
        _seen(own, others or [unknown], turns),
        tuple(
            _seen(one, [*others[:i], *others[i + 1 :]], _mean([o.turns for o in [*others[:i], *others[i + 1 :]]]))
            for i, one in enumerate(others)
            if len(others) > 1
        ),
        turns,
        -np.diff(_mean([np.log(one.norms) for one in others or [unknown]]), axis=0),
    )


def _normal_sizes(case: Case, normal: Normal, names: Sequence[str]) -> np.ndarray:
    """What is normal of these weights at each checkpoint, or on the way between two of which it is known; shape (t, w),
    NaN where nothing is."""
    steps = [place.step for place in normal.within]
    known = np.array([[normal.means[name][row] for name in names] for row in range(len(steps))])
    points = case.record.points
    if all(step is not None for step in steps):
        order = np.argsort(np.array(steps, float))
        track = Track(np.array(steps, float)[order], known[order], np.full((*known.shape, 1), np.nan))
        return track.moved_to(np.array([point.step for point in points], float)).norms
    sizes = np.full((len(points), len(names)), np.nan)
    for row, place in enumerate(normal.within):
        index = locate(points, place.canonical, 0)
        if index is not None:
            sizes[index] = known[row]
    return sizes


def _measured(record: Record) -> set[str]:
    column = record.columns.get((Request.of(load_metrics()["relative_update_norm"], {}), "value"))
    return column.weights() if column is not None else set()


def _track(record: Record, names: Sequence[str], *, by_steps: bool) -> Track:
    steps = [point.step for point in record.points]
    norms = Table.of(
        record.column(Request.of(load_metrics()["relative_update_norm"], {}), "value"), steps, names
    ).values
    norms = np.where((norms > 0) & ~(rounding_shares(record, steps, names)[0] > ROUNDED), norms, np.nan)
    if len(record.sketches.values):
        sketches = np.stack([record.sketches.at(step, names) for step in steps]).astype(np.float64)
    else:
        sketches = np.full((*norms.shape, 1), np.nan)
    at = np.array(steps, float) if by_steps else np.array([point.progress for point in record.points])
    return Track(at, norms, norms[..., None] * sketches)


def _seen(own: Track, others: Sequence[Track], turns: np.ndarray) -> Seen:
    return Seen(
        np.log(own.norms) - _mean([np.log(one.norms) for one in others]),
        _mean([cosines(own.updates, one.updates) for one in others]),
        own.turns - turns,
        np.log(_norm(own.later)) - _mean([np.log(_norm(one.later)) for one in others]),
        _mean([cosines(own.later, one.later) for one in others]),
    )


def _norm(sketches: np.ndarray) -> np.ndarray:
    found: np.ndarray = np.linalg.norm(sketches, axis=-1)
    return found


def _mean(each: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
    """The mean over the first axis of what is known: NaN where nothing is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        found: np.ndarray = np.nanmean(np.asarray(each), axis=0)
    return found


def over_weights(values: np.ndarray) -> np.ndarray:
    """The median of each row, over what is known; NaN where nothing is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        found: np.ndarray = np.nanmedian(values, axis=1)
    return found


def _spread(values: np.ndarray) -> float:
    """The standard deviation in a row, on average over the rows."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return float(np.nanmean(np.nanstd(values, axis=1)))
