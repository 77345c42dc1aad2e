"""Runs whose way is less straight than good runs', or straighter: noise in the gradients, and momentum."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from geomcheck.diagnosis import logged
from geomcheck.diagnosis.against import Against, against
from geomcheck.diagnosis.case import Case
from geomcheck.diagnosis.direction import along, missing_at_least
from geomcheck.diagnosis.finding import Finding
from geomcheck.diagnosis.kind import Kind

TURNED = 0.025
"""How much lower than usual the cosine of successive increments is, at least,"""

SPREADS = 3.0
"""and in distances of good runs from each other."""

LARGE = 1.2
"""From how many times a good run's size, along it, the noise is that of large steps."""

STRAIGHTER = 0.4
"""Share of what the cosine of successive increments is short of 1 that momentum removes, at least."""

KEPT = 0.9
"""Share of a good run's size that the update keeps along it where noise came in when weights were saved."""

ANOTHER = 2.0
"""From what factor on the loss is of another objective, where the batch is as large."""

MISSED = 0.6
"""Share of what another objective would lower the cosine by, at least, that noise does."""


def _find_noise(case: Case) -> Iterator[Finding]:
    found = against(case)
    if found is None or not found.usual or not (free := found.free).any():
        return
    turned, size = found.turned(free), along(found)
    if not turned < -max(TURNED, SPREADS * found.turn_spread) or size >= LARGE:
        return
    if not found.missing(free) > MISSED * missing_at_least(found):
        return
    tokens, loss = logged.tokens(case), logged.ratio(case, "loss")
    few = np.isfinite(tokens) and not 0.8 < tokens < 1.25
    other = not few and np.isfinite(loss) and not 1 / ANOTHER < loss < ANOTHER
    yield NOISE.finding(
        case,
        found.cells(free),
        f"the way is noisier than in good runs: successive increments have a cosine of {_turns(found, turned)}, and "
        f"the part of the update that good runs share is {size:.2f} of theirs",
        evidence=(
            f"cosine of the update with a good run's lower than usual by {found.missing(free):.3f}",
            *([f"the log counts {logged.times(tokens)} a good run's tokens in a step"] if few else ()),
            found.evidence(),
        ),
        causes=_causes(size, f"the loss in the log is {logged.times(loss)} a good run's" if other else ""),
    )


def _causes(size: float, loss: str) -> tuple[str, ...]:
    """Noise in gradients makes the optimizer's steps in the shared direction smaller; noise that came in when weights
    were saved does not."""
    batch, saved = NOISE.causes
    if size >= KEPT:
        return saved, batch
    return (f"another objective, with noisier gradients: {loss}", batch) if loss else (batch, saved)


def _turns(found: Against, turned: float) -> str:
    usual = float(np.nanmean(found.turns))
    return f"{usual + turned:.2f}, where {usual:.2f} is usual"


def _find_momentum(case: Case) -> Iterator[Finding]:
    found = against(case)
    if found is None or not found.usual or not (free := found.free).any():
        return
    turned = found.turned(free)
    if not np.isfinite(turned):
        return
    short = 1 - float(np.nanmean(found.turns))
    if turned < max(STRAIGHTER * short, SPREADS * found.turn_spread):
        return
    yield MOMENTUM.finding(
        case,
        found.cells(free),
        f"the way is straighter than in good runs: successive increments have a cosine of {_turns(found, turned)}",
        evidence=(found.evidence(),),
    )


NOISE = Kind(
    name="noise",
    group="C",
    grade="inference",
    title="noisier gradients",
    about="Less of each increment goes on in the direction of the one before than in good runs, and less of the update "
    "is what good runs share.",
    looks_at=("record", "good"),
    causes=(
        "a smaller batch, or the same data again and again",
        "noise in what was saved: rounding, a lossy conversion, perturbed weights",
    ),
    next_step="Compare the batch size over all ranks and accumulation steps, and the seed and shards of the data.",
    find=_find_noise,
)

MOMENTUM = Kind(
    name="momentum",
    group="C",
    grade="inference",
    title="a straighter way",
    about="Successive increments go on in one direction more than in good runs.",
    looks_at=("record", "good"),
    causes=("more momentum (Adam's beta1)", "less noise in the gradients: a larger batch, or fewer different data"),
    next_step="Compare the optimizer's betas and the batch size in both configurations.",
    find=_find_momentum,
)
