"""A run that starts elsewhere than the good runs."""

from __future__ import annotations

from collections.abc import Iterator

from geomcheck.diagnosis import logged
from geomcheck.diagnosis.case import Case
from geomcheck.diagnosis.finding import Finding
from geomcheck.diagnosis.kind import Kind
from geomcheck.suite.likeness import start_difference


def _find_start(case: Case) -> Iterator[Finding]:
    """Where it starts as no good run does."""
    records = [one.record for one in case.good]
    if any(start_difference(case.record, record) is None for record in records):
        return
    other = records[0]
    shared = [name for name in case.record.w0 if name in other.w0 and name in case.weights]
    odd = {name for name in shared if case.record.w0[name] != other.w0[name]}
    if not odd or any(case.weights[name].dtypes[:1] != other.weights[name].dtypes[:1] for name in odd):
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
