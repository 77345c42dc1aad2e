"""A run that starts elsewhere than the good runs."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean

import numpy as np

from geomcheck.diagnosis import logged
from geomcheck.diagnosis.against import Against, against
from geomcheck.diagnosis.case import Case
from geomcheck.diagnosis.finding import Finding
from geomcheck.diagnosis.kind import Kind
from geomcheck.suite.likeness import different_in_w0, start_difference

LONG = 2.0
"""From how many times a good run's size the first update comes from elsewhere,"""

ASIDE = 0.7
"""and up to which share of the later cosine it points elsewhere,"""

ALIKE = 1.5
"""where the size of what comes after is between a good run's by this and times this,"""

STRAIGHT = 0.8
"""and its cosine with a good run's has this share of the usual."""


def _find_start(case: Case) -> Iterator[Finding]:
    """Where it starts as no good run does, or from another place than its W0 says."""
    records = [one.record for one in case.good]
    found = against(case)
    if found is not None:
        yield from _beyond(case, found)
    if not records or any(start_difference(case.record, record) is None for record in records):
        return
    other = records[0]
    shared = [name for name in case.record.w0 if name in other.w0 and name in case.weights]
    odd = {name for name in different_in_w0(case.record, other) if name in case.weights}
    if not odd or any(case.weights[name].dtypes[:1] != other.weights[name].dtypes[:1] for name in shared):
        return
    case.memory |= {logged.TOLD: True, logged.EXPECTED: True}  # another training logs something else
    yield START.finding(
        case,
        {(name, index) for name in odd for index in range(len(case.points))},
        f"the run starts from another W0 than the good runs: {case.named(odd).verb('differs', 'differ')} there",
        evidence=(
            f"{len(odd)} of {len(shared)} tensors of W0 differ, by their digests",
            f"W0 here: {case.record.origin.path}; of a good run: {other.origin.path}",
        ),
    )


def _beyond(case: Case, found: Against) -> Iterator[Finding]:
    """Where the way up to the first checkpoint is long and elsewhere, and all after it as in good runs."""
    both = found.free[0] & found.free[-1]
    if not both.any() or len(case.points) < 2:
        return
    first, later = (float(np.exp(np.median(row[both]))) for row in (found.seen.sizes[0], found.seen.later_sizes[-1]))
    aside, along = (float(np.median(row[both])) for row in (found.seen.cosines[0], found.seen.later_cosines[-1]))
    if first < LONG or not 1 / ALIKE <= later <= ALIKE or along < STRAIGHT * _usual(found, both):
        return
    if aside >= ASIDE * along:
        return
    yield START.finding(
        case,
        found.cells(found.free),
        f"the run did not start at W0: up to {case.points[0].name} the update is {first:.1f} times a good run's and "
        "points elsewhere, and what comes after is as in good runs",
        evidence=(
            f"cosine with a good run's update {aside:.2f} at {case.points[0].name}, of what comes after {along:.2f}",
            f"size of what comes after {later:.2f} times a good run's",
            found.evidence(),
        ),
        causes=(START.causes[0], "W0 was perturbed, exchanged or merged before the first step"),
    )


def _usual(found: Against, columns: np.ndarray) -> float:
    """Of what comes after the first checkpoint, between good runs; 1 where that is not known."""
    each = [float(np.median(one.later_cosines[-1][columns])) for one in found.usual]
    return fmean(each) if each else 1.0


START = Kind(
    name="start",
    group="C",
    grade="inference",
    title="another start",
    about="W0 is not that of the good runs, so that no update can be compared with theirs.",
    looks_at=("record", "good"),
    causes=(
        "training started from another checkpoint than was meant, as an earlier one of the stage before",
        "the good runs are those of another model",
    ),
    next_step="Compare the path, and the revision, of the start in both configurations.",
    find=_find_start,
)
