"""Beginning projected training with the channel of any source, or resuming it from a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

from torch import nn

from geomcheck.checkpoints import BaseWeights, Run
from geomcheck.checkpoints.constraint import CHANNEL_FILE, Constraint, How, Unselected
from geomcheck.errors import RunError, UsageError
from geomcheck.projection.channel import Channel
from geomcheck.projection.learned import Moment
from geomcheck.projection.projection import Projection
from geomcheck.record import Record
from geomcheck.suite.language.selection import DEFAULT, Selection

HoldsChannel = Channel | Run | Record | str | Path
"""Anything that a channel can be taken from."""


def constrain_updates(
    model: nn.Module,
    source: HoldsChannel,
    *,
    k: int = 16,
    at: Moment = "20%",
    how: How = "gradient",
    optimizer: Any = None,
    weights: Selection | None = None,
    unselected: Unselected = "free",
    base: BaseWeights | str | Path | None = None,
    leave_out_undefined: bool = False,
    start_step: int = 0,
) -> Projection:
    """Confine the updates of a model from now on.

    Args:
        model: as it is trained; ``DistributedDataParallel`` and ``fully_shard`` models too, after they were wrapped.
        source: a `Channel`; a run or its directory; a record of a run that is still there; or a directory or file
            that `Channel.save` wrote.
        k, at, base, leave_out_undefined: how V is taken of a run or record, see `Channel.of_run`.
        how: project the gradient, as the paper does, or the step; see `Projection` for what each guarantees.
        optimizer: needed for ``how="step"`` and ``unselected="frozen"``. Given one, ``how="gradient"`` projects what it
            is about to step on once more, whatever came between, and its momentum as it is now.
        weights: which matrices; by default those of the channel, or of a run the linear ones of layers.
        unselected: whether all other parameters train freely, or stand still.
        start_step: optimizer steps done so far, for the checkpoints.

    Raises:
        UsageError: the model lacks a weight of the channel or has it in another shape or form, the optimizer does not
            step on it, it is constrained already, or nothing is selected. Nothing is changed then.
        RunError: the source cannot be read or trusted.
    """
    if how not in get_args(How) or unselected not in get_args(Unselected):
        raise UsageError(f"how={how!r}, unselected={unselected!r}: give gradient or step, and free or frozen")
    channel = _taken(source, k, at, base, weights or DEFAULT, leave_out_undefined)
    if weights is not None:
        channel = channel.of(weights)
    return Projection(model, channel, how=how, unselected=unselected, optimizer=optimizer, start_step=start_step)


def resume_constraint(model: nn.Module, checkpoint: str | Path, *, optimizer: Any = None) -> Projection:
    """Confine the updates of a model as a checkpoint says that they were, with the channel that it holds.

    Load the optimizer's state before, so that its momentum is seen.

    Raises:
        UsageError: the checkpoint was not constrained, or as `constrain_updates`.
        RunError: what it says is damaged, or it lacks the channel.
    """
    known = Constraint.read(checkpoint)
    if known is None:
        raise UsageError(f"{checkpoint}: it was not constrained, so there is nothing to resume")
    channel = Channel.load(Path(checkpoint) / CHANNEL_FILE)
    there = channel.drawn, channel.k, channel.seed, len(channel.vectors)
    if there != (known.channel, known.k, known.seed, known.weights):
        raise RunError(f"{checkpoint}: {CHANNEL_FILE} is not the channel that the constraint speaks of")
    how, unselected, step = known.how, known.unselected, known.start_step
    return Projection(model, channel, how=how, unselected=unselected, optimizer=optimizer, start_step=step)


def _taken(
    source: HoldsChannel,
    k: int,
    at: Moment,
    base: BaseWeights | str | Path | None,
    weights: Selection,
    leave_out_undefined: bool,
) -> Channel:
    """The channel of a source, by what it is."""
    if isinstance(source, Channel):
        return source
    if isinstance(source, str | Path):
        path = Path(source)
        if path.suffix == ".safetensors" or (path / CHANNEL_FILE).exists():
            return Channel.load(path)
    if isinstance(source, Record) or (not isinstance(source, Run) and path.is_file()):
        return Channel.of_record(source, k=k, at=at, weights=weights, leave_out_undefined=leave_out_undefined)
    return Channel.of_run(source, k=k, at=at, base=base, weights=weights, leave_out_undefined=leave_out_undefined)
