"""V of weights as training made them: of a checkpoint of a run, or of the parameters as they are now."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from geomcheck.checkpoints import BaseWeights, Run, WeightSource, comparable
from geomcheck.checkpoints.canonical import canonical
from geomcheck.checkpoints.changes import whole
from geomcheck.diagnostics import Base, Update
from geomcheck.diagnostics.locking import top_channel
from geomcheck.errors import RunError, Undefined, UsageError
from geomcheck.live.loop.live_weights import gathered
from geomcheck.measurement import survey
from geomcheck.measurement.provenance import require_measured_on
from geomcheck.measurement.soundness import ANOTHER_MODEL
from geomcheck.measurement.trajectory import Trajectory, WeightFiles
from geomcheck.record import Record, locate
from geomcheck.suite.language.selection import Selection

Found = Mapping[str, Tensor | Undefined]
"""By weight: V, float64 with orthonormal columns (in, k), or the reason why there is none."""

Moment = str | int
"""A checkpoint: a share of the training (``20%``: the nearest, within 5 points), ``first``, ``last``, or a step."""


def channels_of_run(run: Run, base: BaseWeights, *, k: int, at: Moment, weights: Selection) -> tuple[str, Found]:
    """V_K of the cumulative update at one checkpoint of a run.

    Returns:
        The checkpoint's name, and what was found.

    Raises:
        UsageError: the run has no such checkpoint, or k is not below every `in`.
        RunError: a weight cannot be read or trusted.
        Unanswerable: nothing is selected.
    """
    run, base = comparable(run, base)
    record = survey(run, base)
    chosen = [weight.name for weight in weights.matrices(record.weights, "a channel")]
    if skipped := [name for name in chosen if name in record.skipped]:
        raise RunError(f"{run.path}: {skipped[0]}: {record.skipped[skipped[0]]}")
    require_narrow(k, {name: record.weights[name].shape[1] for name in chosen})
    index = _index(record, at)
    checkpoint = run.checkpoints[index]
    found: dict[str, Tensor | Undefined] = {}
    for name in chosen:
        files = WeightFiles(name, partial(base.source.read, name), [partial(checkpoint.source.read, name)], _no, _no)
        found[name] = _attempt(partial(Trajectory(files, record.points[index : index + 1]).channel, 0, k, "right"))
    return checkpoint.name, found


def channels_of_live(parameters: Mapping[str, Tensor], base: BaseWeights, *, k: int) -> Found:
    """V_K of W - W0, where W is what the parameters are now.

    Args:
        parameters: matrices by canonical name, (out, in), on any device; where one is sharded, all ranks have to call.
        base: W0.

    Raises:
        UsageError: W0 lacks one of them, has it in another shape, or is of another model.
        RunError: W0 cannot be read.
    """
    before = require_same_weights(parameters, base)
    found: dict[str, Tensor | Undefined] = {}
    for name, parameter in parameters.items():
        now = gathered(parameter)
        update = Update(Base(whole(before.read(name)).to(now.device)), now)
        if not torch.isfinite(now).all():
            raise RunError(f"{name}: NaN or infinite values in the live model")
        if update.norm >= ANOTHER_MODEL * update.base.norm:
            raise UsageError(
                f"{name}: W0 ({base.source.path}) is another model; give the one that this run started from"
            )
        found[name] = _attempt(partial(top_channel, update, k, "right"))
    return found


def require_same_weights(parameters: Mapping[str, Tensor], base: BaseWeights) -> WeightSource:
    """W0 under canonical names. Raises as `channels_of_live`; no weight is read."""
    before = canonical(base.source, base.source.config)
    for name, parameter in parameters.items():
        stored = before.weights.get(name)
        if stored is None or stored.shape != tuple(parameter.shape):
            there = "lacks it" if stored is None else f"has it as {stored.shape}"
            raise UsageError(
                f"{name} {tuple(parameter.shape)}: W0 ({base.source.path}) {there}; give the model that this run "
                "started from, or select other weights (a projection that is fused in the live model is not followed)"
            )
    return before


def require_narrow(k: int, widths: Mapping[str, int]) -> None:
    """Refuse a channel that constrains nothing of some weight, by its `in`. Raises UsageError."""
    wide = [f"{name} (in {width})" for name, width in widths.items() if k >= width]
    if type(k) is not int or k < 1 or wide:
        of = f": it constrains nothing of {', '.join(wide[:3])}" if wide else ""
        raise UsageError(f"k={k}{of}; give a whole number from 1 and below every weight's in")


def require_unchanged(record: Record, run: Run, base: BaseWeights, at: Moment) -> None:
    """Refuse a run that is not the one that a record was measured on, at W0 or at one checkpoint.

    Raises:
        RunError: its weights are others, or the record does not say what it measured.
        UsageError: the record has no such checkpoint.
    """
    run, base = comparable(run, base)
    point = record.points[_index(record, at)]
    source = next((c.source for c in run.checkpoints if c.name == point.name), None)
    if source is None:
        raise RunError(f"{run.path}: {point.name}, which the record of {record.run} holds, is gone; give a run")
    for where, weights in (("W0", base.source), (point.name, source)):
        try:
            require_measured_on(record, where, weights)
        except RunError as error:
            raise RunError(f"{error}; records hold figures, not V, so give a run") from error


def _index(record: Record, at: Moment) -> int:
    where: Any = {"step": at} if isinstance(at, int) else {"progress": at} if at.endswith("%") else at
    try:
        index = locate(record.points, where, 0)
    except (ValueError, TypeError) as error:
        raise UsageError(f"at={at!r}: give a share such as '20%', 'first', 'last', or a step") from error
    if index is None:
        steps = ", ".join(f"step {point.step} ({point.progress:.0%})" for point in record.points)
        raise UsageError(f"{record.path}: no checkpoint at {at!r}, or within 5 points of it; there are {steps}")
    return index


def _attempt(compute: Callable[[], Tensor]) -> Tensor | Undefined:
    try:
        return compute()
    except Undefined as reason:
        return reason


def _no(*_: Any) -> Any:
    raise Undefined("there is no reference run")
