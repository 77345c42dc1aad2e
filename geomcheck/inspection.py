"""Inspect a run from headers and file names alone: what it holds, and what measuring it would read."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from geomcheck._version import VERSION
from geomcheck.checkpoints import (
    BaseWeights,
    Checkpoint,
    Incomplete,
    Run,
    Stored,
    WeightSource,
    comparable,
    find_base,
    open_base,
    open_run,
)
from geomcheck.errors import GeomcheckError, UsageError
from geomcheck.measurement import survey
from geomcheck.record import Record, read_record
from geomcheck.urls import named

BYTES = {"bf16": 2, "fp16": 2, "fp32": 4, "fp64": 8}
"""Size of an entry by storage format; those of quantized formats have one byte or less."""

FLOPS_PER_ENTRY = 4
"""Operations for every metric on an (out, in) matrix, per entry, per unit of its smaller side, and per checkpoint (W0
counts as one). Measured with all metrics at their defaults on the bf16 matrices of tests/bench: 0.08 to 0.09 ns of
processor time, on a core that multiplies float64 matrices at 46 GFLOP/s."""

CORE_GFLOPS = 46.0
"""Speed of that core."""

NO_MATRIX = "a vector or a number: no diagnostic applies"
FLAT = "a single row or column, or biases: no diagnostic applies"


@dataclass(frozen=True)
class Held:
    """What one checkpoint, or W0, holds.

    Attributes:
        name: of the checkpoint; for W0 the rule that found it.
        path: the directory with its weights.
        step: None for W0.
        progress: share of the training done, 0..1; None for W0.
        format: how its weights are stored.
        dtypes: number of tensors by storage format.
        bytes: size of its tensors.
    """

    name: str
    path: str
    step: int | None
    progress: float | None
    format: str
    dtypes: Mapping[str, int] = field(default_factory=dict)
    bytes: int = 0


@dataclass(frozen=True)
class WeightGroup:
    """Weights of one role (attention, mlp, ...) that share a module, a shape, and a fate.

    Attributes:
        module: last component of their names.
        example: the first of their names.
        reason: why none of them is measured; None where they are.
    """

    kind: str
    module: str
    shape: tuple[int, ...]
    count: int
    example: str
    reason: str | None = None


@dataclass(frozen=True)
class Cost:
    """An estimate of measuring every attention and MLP matrix with every metric.

    Attributes:
        bytes_read: of W0 and all checkpoints; metrics that compare checkpoints read the checkpoints twice.
        gflop: float64 operations, in 10^9.
        core_hours: on a core of `CORE_GFLOPS`.
    """

    weights: int
    bytes_read: int
    gflop: float
    core_hours: float


@dataclass(frozen=True)
class Inspection:
    """What ``geomcheck inspect`` says of a run or a record.

    Attributes:
        kind: ``run`` or ``record``.
        framework: what wrote the run's directories; empty for a record.
        layout: how its weights are stored.
        left_out: (name, reason) of step directories that are not checkpoints.
        notes: what a reader should know, of `left_out` too.
        base: W0; None where there is none.
        base_missing: why there is none.
        groups: every weight of the run or of W0, in groups; matched with W0 if there is one.
        metrics: what a record holds figures of; empty for a run.
        frozen: names of weights that never changed; None for a run, whose headers cannot tell.
        cost: None for a record, and where the weights could not be matched.
    """

    kind: str
    name: str
    path: str
    framework: str
    layout: str
    checkpoints: tuple[Held, ...]
    left_out: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    base: Held | None = None
    base_missing: str = ""
    groups: tuple[WeightGroup, ...] = ()
    metrics: tuple[str, ...] = ()
    frozen: tuple[str, ...] | None = None
    cost: Cost | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain types for JSON."""
        return {"format": 1, "geomcheck": VERSION} | asdict(self)


def inspect(
    path: str | Path, *, base: BaseWeights | str | Path | None = None, incomplete: Incomplete = "skip"
) -> Inspection:
    """Look at a run directory or a record file, opening headers only.

    Args:
        path: the run, its URL, or the record.
        base: W0, as for `geomcheck.measure`; without one, and where the run provides none, weights are not matched.
        incomplete: as for `geomcheck.measure`.

    Raises:
        UsageError: no such run, or W0 belongs to another model.
        RunError, RecordError: a header or a record cannot be read.
    """
    if Path(path).is_file():
        return _of_record(read_record(path), path)
    run = open_run(path, incomplete=incomplete)
    given = open_base(base, "--base") if isinstance(base, str | Path) else base
    try:
        w0 = find_base(run, given=given)
    except UsageError as error:
        if given is not None:
            raise
        return _without_base(run, path, str(error))
    return _matched(_stored(run, path, w0), run, w0, w0)


def _stored(run: Run, path: str | Path, w0: BaseWeights | None) -> Inspection:
    """What lies in the files of a run, under whatever names."""
    return Inspection(
        kind="run",
        name=run.name,
        path=str(path),
        framework=run.framework,
        layout=run.layout,
        checkpoints=tuple(_held(c.name, c.source, c) for c in run.checkpoints),
        left_out=tuple((entry.name, entry.reason) for entry in run.left_out),
        notes=run.notes,
        base=_held(w0.how, w0.source) if w0 else None,
    )


def _matched(found: Inspection, run: Run, w0: BaseWeights | None, against: BaseWeights) -> Inspection:
    """`found` with the weights of `run` under their canonical names, matched with those of `against`."""
    run, against = comparable(run, against)
    record = survey(run, against)
    cost = _cost(found, run, against if w0 else None, record)
    return replace(found, notes=run.notes, groups=_groups(record), cost=cost)


def _without_base(run: Run, path: str | Path, missing: str) -> Inspection:
    """A run without W0: its checkpoints are matched with the first of them, if that alone gives them their names."""
    found = _stored(run, path, None)
    try:
        found = _matched(found, run, None, BaseWeights(run.checkpoints[0].source, "no W0"))
    except GeomcheckError as error:
        missing = f"{missing}\nWithout it the weights are not matched: {error}"
    return replace(found, base_missing=missing)


def _of_record(record: Record, path: str | Path) -> Inspection:
    """A record: what was measured, and where."""
    return Inspection(
        kind="record",
        name=record.run,
        path=str(path),
        framework="",
        layout=record.layout,
        checkpoints=tuple(Held(p.name, record.path, p.step, p.progress, record.layout) for p in record.points),
        base=Held(record.origin.how, record.origin.path, None, None, ""),
        groups=_groups(record),
        metrics=tuple(sorted(record.measured_metrics())),
        frozen=_frozen(record),
    )


def _held(name: str, source: WeightSource, checkpoint: Checkpoint | None = None) -> Held:
    stored = source.weights.values()
    step, progress = (checkpoint.step, checkpoint.progress) if checkpoint else (None, None)
    dtypes = dict(Counter(entry.dtype for entry in stored).most_common())
    return Held(name, named(source.path), step, progress, source.layout, dtypes, sum(map(_bytes, stored)))


def _bytes(stored: Stored) -> int:
    return math.prod(stored.shape) * BYTES.get(stored.dtype, 1)


def _groups(record: Record) -> tuple[WeightGroup, ...]:
    """The weights of `record` by role, module, shape and fate, in the order of their first names."""
    groups: dict[tuple[str, str, tuple[int, ...], str | None], list[str]] = {}
    for weight in record.weights.values():
        reason = record.skipped.get(weight.name)
        if reason is None and not weight.is_matrix:
            dims = len(weight.shape)
            reason = FLAT if dims == 2 else f"{dims} dimensions, not 2" if weight.is_bulky else NO_MATRIX
        groups.setdefault((weight.role, weight.module, weight.shape, reason), []).append(weight.name)
    return tuple(
        WeightGroup(kind, module, shape, len(names), names[0], reason)
        for (kind, module, shape, reason), names in groups.items()
    )


def _frozen(record: Record) -> tuple[str, ...]:
    """Weights with the share 1 of entries that never changed, up to the last checkpoint."""
    last = record.points[-1].step
    shares = [record.column(*key) for key in record.measured() if key[0].metric == "frozen_share"]
    return tuple(
        sorted(c.names[code] for c in shares for code in c.codes[(c.steps == last) & (c.values == 1)].tolist())
    )


def _cost(found: Inspection, run: Run, w0: BaseWeights | None, record: Record) -> Cost:
    weights = [weight for weight in record.weights.values() if weight.is_linear and weight.name not in record.skipped]
    entries = sum(weight.numel * min(weight.shape) for weight in weights)
    gflop = FLOPS_PER_ENTRY * entries * (len(run.checkpoints) + 1) / 1e9
    sources = [*([w0.source] if w0 else []), *(checkpoint.source for checkpoint in run.checkpoints)]
    held = [*([found.base] if found.base else []), *found.checkpoints]
    wanted = (sum(_bytes(source.weights[weight.name]) for weight in weights) for source in sources)
    bytes_read = sum(min(there.bytes, size) for there, size in zip(held, wanted, strict=True))
    return Cost(len(weights), bytes_read, gflop, core_hours=gflop / CORE_GFLOPS / 3600)
