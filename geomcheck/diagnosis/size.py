"""Updates of another size than those of good runs: by one factor, by one that drifts, or unevenly over weights."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from geomcheck.diagnosis import logged
from geomcheck.diagnosis.against import ALONE, WEIGHTS, Against, against, over_weights
from geomcheck.diagnosis.case import Case, median
from geomcheck.diagnosis.direction import missing_at_least
from geomcheck.diagnosis.finding import Finding
from geomcheck.diagnosis.kind import Kind

OFF = math.log(1.12)
"""How far the log of a size is off, at least,"""

LEVELS = 3.0
"""and in the largest distances of good runs from each other."""

LEAST = 3
"""Checkpoints from which on it is told that saves lag behind;"""

FIRST = 0.02
"""the first is W0 where it has this share of the norm of the second, at most."""

FLAT = 0.25
"""Share of a log ratio that it may change by along a run and still be one factor, beside what good runs do."""

JUMP = 3.0
"""How many times further off the checkpoints that are must be than the others."""

NOISY = -0.05
"""How much lower than a single good run's the cosine of successive increments is, where noise may do it."""

LITTLE = 0.05
"""and in any case."""

WINDING = 1.5
"""How many times its net change a log ratio may go up and down where it drifts."""

EVEN = 0.15
"""Standard deviation of log sizes over weights, as a share of their middle, up to which they are even."""

APART = 0.2
"""How far off a single weight's log size is, at least,"""

SPREADS = 6.0
"""and in standard deviations over the weights of good runs."""

MOST = 0.8
"""Share of the weights that must be off in one direction for all to be."""

EXACT = 1.5
"""How many times the usual spread over weights an operation on the weights leaves, at most: it adds none of its own."""

NEAR = 0.03
"""How near a simple ratio a factor must be, as a log."""

UNTOLD = "another direction, which sizes alone do not tell, as of noisier gradients: give good runs, with --good"

RANKS = (8, 16, 32, 64, 128, 256)
"""Usual ranks of adapters."""


class Off:
    """How far a run is off in size, over what is free.

    Attributes:
        sizes: log ratios, NaN where they cannot be judged or are explained; shape (t, w).
        middle: their median over weights, shape (t,).
        limit: how far a middle must be off.
    """

    def __init__(self, found: Against) -> None:
        free = found.free
        enough = free.sum(axis=1) >= min(WEIGHTS, len(found.names))
        self.sizes = np.where(free & enough[:, None], found.seen.sizes, np.nan)
        self.middle = over_weights(self.sizes)
        self.limit = max(OFF, LEVELS * found.level) if found.knows_sizes else ALONE
        self.known = np.isfinite(self.middle)
        with np.errstate(invalid="ignore"):
            self.off = self.known & (np.abs(self.middle) > self.limit)
        self._usual_spread, self._level = found.spread, found.level
        self._even = 3 * found.spread if found.knows_sizes else found.spread

    def is_even(self, row: int) -> bool:
        """Whether all weights are off at a checkpoint, by about one factor."""
        sizes = self.sizes[row][np.isfinite(self.sizes[row])]
        middle = float(self.middle[row])
        together = float(np.mean(np.sign(middle) * sizes > self.limit / 2)) >= MOST
        return together and float(sizes.std()) <= max(EVEN * abs(middle), self._even, LITTLE)

    def is_exact(self, rows: list[int]) -> bool:
        """Whether the sizes spread over weights no more than those of good runs do."""
        spread = float(np.nanmean(np.nanstd(self.sizes[rows], axis=1)))
        return spread <= EXACT * self._usual_spread and float(np.ptp(self.middle[rows])) <= 2 * OFF / 3

    def is_flat(self) -> bool:
        """Whether it is off by one factor wherever it is off, and not at all or as little as elsewhere."""
        values, others = self.middle[self.off], np.abs(self.middle[self.known & ~self.off])
        if float(np.ptp(values)) > FLAT * abs(float(np.median(values))) + 4 * self._level:
            return False
        return not len(others) or float(np.abs(values).min()) >= JUMP * float(others.max())


def _find_scale(case: Case) -> Iterator[Finding]:
    found = against(case)
    if found is None:
        return
    off = Off(found)
    rows = np.flatnonzero(off.off).tolist()
    if not len(rows) or not off.is_flat() or not all(off.is_even(row) for row in rows):
        return
    factor = float(np.exp(np.median(off.middle[rows])))
    if not found.usual and factor < 1 and found.turned(found.free) < NOISY:
        return  # as noisier gradients make them too, which one good run cannot tell
    inside = np.exp(off.sizes[rows][np.isfinite(off.sizes[rows])])
    yield SCALE.finding(
        case,
        found.cells(np.isfinite(off.sizes) & off.off[:, None]),
        f"every update is {factor:.2f} times a good run's {case.when(rows)}"
        + ", in its usual direction" * (found.missing(found.free) <= missing_at_least(found)),
        evidence=(
            f"{inside.min():.2f} to {inside.max():.2f} times over weights and checkpoints",
            *_direction(found),
            found.evidence(),
        ),
        causes=(
            *_scale_causes(case, factor, exact=off.is_exact(rows), late=len(rows) < off.known.sum()),
            *((UNTOLD,) if np.isnan(found.seen.cosines).all() else ()),
        ),
    )


def _direction(found: Against) -> Iterator[str]:
    own, usual = (over_weights(values) for values in (found.seen.cosines, found.cosines))
    known = np.flatnonzero(np.isfinite(own))
    if len(known):
        usually = f", usually {usual[known[-1]]:.3f}" if math.isfinite(usual[known[-1]]) else ""
        yield f"cosine with a good run's update {own[known[-1]]:.3f}{usually}, the median over weights"


def _scale_causes(case: Case, factor: float, *, exact: bool, late: bool) -> tuple[str, ...]:
    """The likeliest two: what the log says comes first, and what it rules out last."""
    operation, rate = _operation(factor), logged.rate(case)
    if late:
        return operation, "these checkpoints were saved, merged or converted otherwise than the others"
    if rate is not None and math.log(rate.ratio) * math.log(factor) > 0:
        case.memory[logged.TOLD] = True
        return (f"the learning rate: {rate.text}", operation)
    if zeros := sum(value == 0 for value in case.log["gradient norm"].values()):
        return f"steps that did not count: the gradient norm in the log is 0 in {zeros} entries", operation
    if logged.is_known(case):
        return operation, "steps that did not count, skipped or without a gradient, or a learning rate not in the log"
    rates = "the learning rate, or steps that were skipped"
    return (operation, rates) if exact else (rates, operation)


def _operation(factor: float) -> str:
    """What somebody may have done with the weights."""
    ratio = math.log(factor)
    if abs(ratio - math.log(0.5)) <= NEAR:
        return "the update was merged at half its scale: 50% with the base, or half the LoRA alpha"
    if abs(ratio - math.log(2)) <= NEAR:
        return "the update was added twice, or merged with twice the LoRA alpha"
    for rank in RANKS:
        if abs(abs(ratio) - math.log(rank) / 2) <= NEAR:
            done, root = ("used", "") if ratio > 0 else ("ignored", "1 / ")
            return f"the scale of a merge: rsLoRA {done} ({factor:.2f} is {root}sqrt({rank}))"
    return "the scale of a merge or an adapter: LoRA alpha, rsLoRA, a merge with the base"


def _find_lag(case: Case) -> Iterator[Finding]:
    """Where the first save is W0 or nearly, and every later one as large as good runs are a checkpoint earlier."""
    found = against(case)
    if found is None or len(case.points) < LEAST:
        return
    off, late = Off(found), found.free[1:]
    own = np.where(late, found.seen.sizes[1:], np.nan)
    behind, level = over_weights(own - found.growth), over_weights(own)
    first = median(sizes[0] for sizes in case.sizes.values())
    if first > FIRST * median(sizes[1] for sizes in case.sizes.values()) or not np.isfinite(behind).all():
        return
    if (np.abs(behind) > off.limit).any() or not (level < -off.limit).any():
        return
    ratios = " ".join(f"{value:.2f}" for value in np.exp(behind))
    yield LAG.finding(
        case,
        {(name, index) for name in found.names for index in range(len(case.points))},
        f"every save lags one behind: {case.points[0].name} is W0 or nearly, and the update of each later one is as "
        "large as good runs' at the checkpoint before",
        evidence=(
            f"{ratios} times a good run's size one checkpoint earlier, the median over weights",
            found.evidence(),
        ),
    )


def _find_drift(case: Case) -> Iterator[Finding]:
    found = against(case)
    if found is None:
        return
    off = Off(found)
    known = np.flatnonzero(off.known)
    if len(known) < 2 or not off.off[known[-1]] or not off.is_even(known[-1]) or off.is_flat():
        return
    steps = np.diff(off.middle[known])
    change = abs(float(steps.sum()))
    if change <= off.limit or float(np.abs(steps).sum()) > WINDING * change:
        return
    first, last = (float(np.exp(off.middle[row])) for row in (known[0], known[-1]))
    names = [case.points[row].name for row in (known[0], known[-1])]
    course = " ".join(f"{value:.2f}" for value in np.exp(off.middle[known]))
    yield DRIFT.finding(
        case,
        found.cells(np.isfinite(off.sizes)),
        f"the size of every update, in a good run's, {'rises' if last > first else 'falls'} from {first:.2f} at "
        f"{names[0]} to {last:.2f} at {names[1]}",
        evidence=(f"{course} at the checkpoints, the median over weights", *_direction(found), found.evidence()),
        causes=_drift_causes(case, rises=last > first),
    )


def _drift_causes(case: Case, *, rises: bool) -> tuple[str, ...]:
    average, penalty = "a running average (EMA) of the weights was saved", "a penalty towards W0: KL, or weight decay"
    other = average if rises else penalty
    if (rate := logged.rate(case)) is not None:
        case.memory[logged.TOLD] = True
        return f"the warm-up or schedule of the learning rate: {rate.text}", other
    schedule = "a longer warm-up of the learning rate" if rises else "a schedule of the learning rate that decays"
    return (other, f"{schedule}, not in the log") if logged.is_known(case) else (schedule, other)


def _find_uneven(case: Case) -> Iterator[Finding]:
    found = against(case)
    if found is None:
        return
    off = Off(found)
    known = np.flatnonzero(off.known)
    if not len(known):
        return
    last = known[-1]
    limit = max(APART, SPREADS * found.spread, off.limit)
    with np.errstate(invalid="ignore"):
        far = np.abs(off.sizes) > limit
    chosen = far[last]
    if not chosen.any():
        return
    factors = np.exp(off.sizes[last])
    there = np.isfinite(off.sizes[last])
    together = float(np.ptp(off.sizes[last][chosen])) <= max(FLAT, 4 * found.spread)
    names = {found.names[column] for column in np.flatnonzero(chosen)}
    rest = np.abs(off.sizes[last][there & ~chosen])
    few = together or 2 * chosen.sum() <= there.sum()
    if few and len(rest) and float(np.median(rest)) <= off.limit:
        told = f"{np.median(factors[chosen]):.2f}" if together else _span(factors[chosen])
        yield UNEVEN.finding(
            case,
            found.cells(far & chosen),
            f"the update of {case.named(names)} is {told} times a good run's {_when(case, far, chosen)}",
            evidence=(f"{_span(factors[there & ~chosen])} times in the others", found.evidence()),
            causes=PART_CAUSES,
        )
    elif not off.is_even(last):  # else off together, in no way that is known
        low, high = (found.names[int(pick(off.sizes[last]))] for pick in (np.nanargmin, np.nanargmax))
        yield UNEVEN.finding(
            case,
            found.cells(np.isfinite(off.sizes)),
            f"the sizes of the updates, in a good run's, differ from weight to weight: {_span(factors[there])}",
            evidence=(f"least in {low}, most in {high}", found.evidence()),
        )


def _when(case: Case, far: np.ndarray, chosen: np.ndarray) -> str:
    return case.when(np.flatnonzero((far & chosen).any(axis=1)).tolist())


def _span(factors: np.ndarray) -> str:
    low, high = f"{factors.min():.2f}", f"{factors.max():.2f}"
    return low if low == high else f"{low} to {high}"


PART_CAUSES = (
    "a learning rate, an adapter or an optimizer group of their own",
    "saved or merged half-way: a stale shard, or another scale in the merge",
)

SCALE = Kind(
    name="scale",
    group="C",
    grade="inference",
    title="updates of another size",
    about="Every update is that of a good run times one factor, in its usual direction. With the trainer's log it is "
    "told whether the learning rate does it.",
    looks_at=("record", "good", "log"),
    causes=("the learning rate, or steps that were skipped", "the scale of a merge or an adapter: LoRA alpha, rsLoRA"),
    next_step="Compare the learning rate and the number of steps that counted; then the scale and alpha of the merge.",
    source="https://github.com/THUDM/slime/issues/1059",
    find=_find_scale,
)

LAG = Kind(
    name="lag",
    group="C",
    grade="inference",
    title="saves that lag one behind",
    about="The first save is W0, and each later one is what good runs are at the checkpoint before.",
    looks_at=("record", "good"),
    causes=(
        "weights were saved before the step, or synchronised after the save: each save holds the weights of the last",
        "a copy for inference or for averages was saved, which is updated once in each interval",
    ),
    next_step="Save by hand once more at the end, and compare that with the last checkpoint.",
    find=_find_lag,
)

DRIFT = Kind(
    name="drift",
    group="C",
    grade="inference",
    title="updates that outgrow or fall behind good ones",
    about="The size of the updates against those of good runs changes along the run, in their usual direction.",
    looks_at=("record", "good", "log"),
    causes=(
        "the warm-up or schedule of the learning rate",
        "a running average (EMA) of the weights was saved, or a penalty pulls towards W0",
    ),
    next_step="Compare the learning rates at each step, then what besides the loss acts on the weights.",
    find=_find_drift,
)

UNEVEN = Kind(
    name="uneven",
    group="C",
    grade="inference",
    title="some updates of another size",
    about="Some weights moved more or less than in good runs, and others did not, or each by another factor.",
    looks_at=("record", "good"),
    causes=(
        "the optimizer: Adam's epsilon, or another optimizer, which scales gradients of each weight otherwise",
        "learning rates, adapters or parameter groups of their own",
    ),
    next_step="Compare the optimizer's settings and parameter groups, and save one of these weights again.",
    find=_find_uneven,
)

KINDS = (LAG, SCALE, DRIFT, UNEVEN)
