"""Survey a run from headers alone: its record before anything is measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from geomcheck._gc import lasting
from geomcheck.checkpoints import BaseWeights, Run, Stored, Weight
from geomcheck.checkpoints.canonical import is_fp8, layer_count
from geomcheck.checkpoints.canonical.numbers import scope_of
from geomcheck.checkpoints.layers import PLAIN
from geomcheck.checkpoints.pairing import likeness
from geomcheck.checkpoints.weights import describe, is_weight
from geomcheck.diagnostics.formats import FORMATS
from geomcheck.errors import RunError, UsageError
from geomcheck.record import Origin, Point, Record
from geomcheck.urls import named

NOT_IN_W0, IN_NO_CHECKPOINT = "not in W0", "in W0, but in no checkpoint"
"""Why a weight cannot be compared that is no fault of one checkpoint: parts are added, and left out, on purpose."""

MAX_NAME = 1000
"""Characters in the name of a weight."""


@lasting()
def survey(run: Run, base: BaseWeights) -> Record:
    """The record of `run` against `base` with its weights, and without figures.

    Weights that cannot be compared (missing in one checkpoint, another shape than W0, quantized) are listed
    with the reason under `skipped`; an expectation that selects one is an error, never a pass.

    Raises:
        UsageError: W0 and the run have no weight matrix in common.
        RunError: a file is missing, truncated, or not what it should be.
    """
    headers = {checkpoint.name: checkpoint.source.weights for checkpoint in run.checkpoints}
    before = base.source.weights
    names = sorted(set(before).union(*headers.values()))
    if odd := [name for name in names if not (name and name.isprintable()) or len(name) > MAX_NAME]:
        raise RunError(f"{run.path}: a weight is called {odd[0][:200]!a}: no model's is, so the file is not trusted")
    record = Record(
        run=run.name,
        path=named(run.address),
        layout=run.layout,
        points=tuple(Point(c.name, c.step, c.progress) for c in run.checkpoints),
        origin=Origin(named(base.source.path), base.how),
        weights={},
        notes=run.notes,
        account=run.account,
    )
    for name in names:
        stored = [before.get(name), *(header.get(name) for header in headers.values())]
        present = [entry for entry in stored if entry is not None]
        alike = stored.count(present[0]) == len(stored)
        kinds = present[:1] if alike else present
        shape = next((entry.shape for entry in kinds if len(entry.shape) == 2), kinds[0].shape)
        dtypes = tuple(dict.fromkeys(entry.dtype for entry in kinds))
        fused = next((entry.fused for entry in kinds if entry.fused), "")
        weight = describe(name, shape, dtypes, fused=fused, lent=_is_lent(stored), new=stored[0] is None)
        record.weights[name] = weight
        if alike and kinds[0].dtype in FORMATS:
            continue
        reason = _incomparable(weight, before.get(name), {where: h.get(name) for where, h in headers.items()})
        if reason is not None and is_weight(weight):
            record.skipped[name] = reason
    _require_same_architecture(record, run, base)
    _require_all_layers(record, run, base)
    return record


def _is_lent(stored: Sequence[Stored | None]) -> bool:
    """Whether every checkpoint has a weight from W0, the first of `stored`, and not one of its own like it."""
    before, *after = stored
    return before is not None and all(entry is before for entry in after)


def _incomparable(weight: Weight, before: Stored | None, after: Mapping[str, Stored | None]) -> str | None:
    """Why a weight cannot be measured along the run, or None."""
    absent = [where for where, entry in after.items() if entry is None]
    if before is None:
        return NOT_IN_W0
    if absent:
        return f"missing from {', '.join(absent)}" if len(absent) < len(after) else IN_NO_CHECKPOINT
    present = {where: entry for where, entry in after.items() if entry is not None}
    for where, entry in {"W0": before, **present}.items():
        if entry.shape != before.shape:
            advice = _explained(weight, before.shape, entry.shape)
            return f"shape {entry.shape} in {where}, but {before.shape} in W0{advice}"
        if entry.dtype not in FORMATS:
            advice = "; --geom-dequantize makes fp32 of fp8 weights with scales" if is_fp8(entry) else ""
            return f"stored as {entry.dtype} in {where}; measured are {', '.join(sorted(FORMATS))}{advice}"
    formats: dict[str, str] = {}
    for where, entry in present.items():
        formats.setdefault(entry.dtype, where)
    if len(formats) > 1:
        places = ", ".join(f"{dtype} from {where}" for dtype, where in formats.items())
        return (
            f"its storage format changes along the run ({places}), and rounding would show as training: "
            "save all checkpoints in one format"
        )
    return None


def _explained(weight: Weight, before: tuple[int, ...], after: tuple[int, ...]) -> str:
    """The likely cause of a difference in shape, as the end of a sentence; empty where it is not known."""
    if {before, after} & {(0,), (1,)}:
        return ": a placeholder, as DeepSpeed ZeRO-3 leaves it; write the weights out with zero_to_fp32.py"
    if weight.role in ("embedding", "head") and before[1:] == after[1:]:
        return ": one vocabulary was padded, or grew"
    return ""


def _require_same_architecture(record: Record, run: Run, base: BaseWeights) -> None:
    """Refuse a W0 in which half of the matrices of the run's first checkpoint have no counterpart."""
    first = run.checkpoints[0].source.weights
    matrices = [w.name for w in record.weights.values() if w.is_matrix and w.name in first]
    if not matrices:
        raise UsageError(f"run {record.path}: no weight matrices in {run.checkpoints[0].name}")
    before = base.source.weights
    alien = [name for name in matrices if name not in before or before[name].shape != first[name].shape]
    if 2 * len(alien) > len(matrices):
        raise UsageError(
            f"W0 ({base.source.path}, {base.how}) does not belong to run {record.path}: {len(alien)} of its "
            f"{len(matrices)} weight matrices are not in W0 or have another shape there. For example {alien[0]}: "
            f"{record.skipped[alien[0]]}{likeness(alien[0], before)}. Give the model that this run started from, with "
            "--geom-base"
        )


def _require_all_layers(record: Record, run: Run, base: BaseWeights) -> None:
    """Refuse a W0 without layers that a config counts; nothing else shows it where the run lacks them too."""
    weights = [record.weights[name] for name in base.source.weights]
    sources = (base.source, *(checkpoint.source for checkpoint in run.checkpoints))
    for source in {layer_count(source.config): source for source in reversed(sources)}.values():
        if lacking := lacking_layers(weights, source.config):
            raise RunError(
                f"W0 ({base.source.path}, {base.how}) lacks {len(lacking)} of the {layer_count(source.config)} layers "
                f"that {source.path / 'config.json'} counts, such as layer {lacking[0]}: a part of it was not saved. "
                "Give a whole model"
            )


def lacking_layers(weights: Iterable[Weight], config: Mapping[str, Any]) -> list[int]:
    """The layers that `config` counts and no stack has, of the stack that lacks fewest; towers of a multimodal model
    have other counts, and a model without a stack lacks nothing."""
    stacks: dict[str, set[int]] = {}
    with_matrices = set()
    for weight in weights:
        if weight.layer is not None:
            stacks.setdefault(weight.stack, set()).add(weight.layer)
            if weight.is_matrix:
                with_matrices.add(weight.stack)
    counted = range(layer_count(config) or 0)
    of_text = (stack for stack in sorted(with_matrices) if _may_be_counted(stack))
    lacking = ([layer for layer in counted if layer not in stacks[stack]] for stack in of_text)
    return min(lacking, key=len, default=[])


def _may_be_counted(stack: str) -> bool:
    """Whether a stack can be the one that a config counts, by its path."""
    return stack.rpartition(".")[2] in PLAIN and scope_of(f"{stack}.") not in ("vision", "audio")
