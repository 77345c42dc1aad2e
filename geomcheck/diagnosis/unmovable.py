"""Steps that bf16 rounds away: which entries the logged learning rate could not move, and whether those did."""

from __future__ import annotations

from collections.abc import Iterator

from geomcheck.diagnosis.case import Case
from geomcheck.diagnosis.finding import Finding
from geomcheck.diagnosis.kind import Kind
from geomcheck.diagnosis.look import blocks
from geomcheck.diagnostics.precision import unmovable_share

UNMOVABLE = 0.5
"""Share of entries that a step cannot move from which a run is frozen by precision."""

STAYED = 0.98
"""Share of those that must be W0's still: finer weights, rounded when they were saved, move in time."""


def _find_unmovable(case: Case) -> Iterator[Finding]:
    rates = [value for value in case.log["learning rate"].values() if 0 < value < 1]
    last = len(case.points) - 1
    names = [name for name in case.ways if case.is_coarse(name, last) and not case.ways[name].seen[last].equal]
    names = [name for name in names if (name, last) not in case.explained]
    if not rates or 2 * len(names) < len(case.ways) or not names:
        return
    rate, total, unmovable, hidden, still = max(rates), 0, 0.0, 0.0, 0
    way = sum(rates) / len(rates) * case.points[last].step  # what all steps cannot show either says nothing
    for name in names:
        w0, wt = case.matrix(name), case.matrix(name, last)
        total += w0.numel()
        unmovable += w0.numel() * unmovable_share(w0, rate)
        hidden += w0.numel() * unmovable_share(w0, max(rate, way))
        still += sum(int((w0[rows].double() == wt[rows].double()).sum()) for rows in blocks(w0))
    telling = unmovable - hidden
    if telling < UNMOVABLE * total or still - hidden < STAYED * telling:
        return
    cells = {(name, index) for name in case.weights for index in range(len(case.points))}
    yield PRECISION.finding(
        case,
        cells,
        f"bf16 rounds the steps away: {unmovable / total:.0%} of the entries cannot move by {rate:.2g}, the learning "
        f"rate in the log, and {still / total:.0%} never did",
        evidence=(f"in {len(names)} matrices at {case.points[last].name}, with a step of the learning rate per entry",),
    )


PRECISION = Kind(
    name="precision",
    group="D",
    grade="inference",
    title="steps below the precision of the weights",
    about="The weights are bf16, most entries are too large for a step of the learning rate to show in, and just those "
    "are W0's still. Weights that are trained in finer formats and saved in bf16 move in time.",
    looks_at=("weights", "log"),
    causes=("the optimizer steps the bf16 weights themselves, without an fp32 master copy",),
    next_step="Train with fp32 master weights, or with stochastic rounding.",
    source="https://github.com/NVIDIA-NeMo/Automodel/issues/3444",
    find=_find_unmovable,
)
