"""Projected training: the updates of a live model's weights are confined to a channel, ``D = D V V^T``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from geomcheck.checkpoints import BaseWeights, Run
from geomcheck.checkpoints.constraint import CHANNEL_FILE, Constraint, How, Unselected
from geomcheck.errors import RunError, UsageError
from geomcheck.live.loop.parameters import has_adapter
from geomcheck.projection.channel import Channel
from geomcheck.projection.hooks import confined_gradients, confined_steps, frozen, local
from geomcheck.projection.learned import Moment
from geomcheck.projection.parameters import matrices
from geomcheck.record import Record
from geomcheck.suite.language.selection import DEFAULT, Selection

HoldsChannel = Channel | Run | Record | str | Path
"""Anything that a channel can be taken from."""

_constrained: Any = WeakTensorKeyDictionary()


class Projection:
    """A constraint in force, as `constrain_updates` makes it.

    What is guaranteed, up to the rounding of the weights' own format:

    - ``how="gradient"``: the optimizer sees ``g V V^T``, and so does clipping. Whatever steps along a linear
      combination of the gradients it saw stays in the channel: SGD, also with momentum. Adam divides by the root of its
      second moment entry by entry, which leads out of the channel; so do weight decay of any kind and Muon's
      orthogonalised step.
    - ``how="step"``: after each step ``W <- W_before + (W - W_before) V V^T``. The cumulative update stays in the
      channel for any optimizer, decoupled weight decay included. During the step one more copy of the constrained
      weights is held. Gradients and the optimizer's moments are left as they are, and clipping sees the full gradient.

    Attributes:
        channel: V.
        constraint: what the checkpoints say of it.
    """

    def __init__(
        self, model: nn.Module, channel: Channel, *, how: How, unselected: Unselected, optimizer: Any, start_step: int
    ) -> None:
        if type(start_step) is not int or start_step < 0:
            raise UsageError(f"start_step={start_step!r}: give the number of optimizer steps done, 0 or more")
        self.channel = channel
        self.constraint = Constraint(
            channel=channel.drawn,
            k=channel.k,
            start_step=start_step,
            how=how,
            unselected=unselected,
            seed=channel.seed,
            source=channel.source,
            weights=len(channel.vectors),
        )
        self._model = model
        self._confined = _matched(model, channel)
        inside = {id(parameter) for parameter in self._confined.values()}
        others = [p for p in model.parameters() if p.requires_grad and id(p) not in inside]
        still = others if unselected == "frozen" else []
        optimizer = _unwrapped(optimizer)
        if optimizer is None and (still or how == "step"):
            raise UsageError('how="step" and unselected="frozen" need the optimizer: give optimizer=')
        if optimizer is not None:
            self._require_stepped(optimizer, {id(parameter) for parameter in still})
        pairs = [(parameter, _beside(channel.vectors[name], parameter)) for name, parameter in self._confined.items()]
        confine = confined_gradients if how == "gradient" else confined_steps
        self._hooks = [*frozen(still, optimizer), *confine(pairs, optimizer)]
        for parameter in self._confined.values():
            _constrained[parameter] = True

    def remove(self) -> None:
        """Let all parameters go; what was trained stays as it is."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        for parameter in self._confined.values():
            _constrained.pop(parameter, None)

    def save(self, checkpoint: str | Path) -> None:
        """Write the constraint and its channel into a checkpoint's directory, on one rank.

        Raises:
            UsageError: there is no such directory, or it cannot be written to; the constraint was removed, or the model
                has other parameters by now, which are not constrained.
        """
        self._require_in_force()
        if not Path(checkpoint).is_dir():
            raise UsageError(f"{checkpoint}: no such checkpoint to write the constraint into")
        self.channel.save(checkpoint)
        self.constraint.write(checkpoint)

    def _require_in_force(self) -> None:
        if not self._hooks:
            raise UsageError("the constraint was removed: a checkpoint of now must not say that it is constrained")
        known = matrices(self._model)
        for name, parameter in self._confined.items():
            if known.get(name) is not parameter:
                raise UsageError(
                    f"{name} of the model is another parameter than the one that was constrained, and trains freely; "
                    "constrain the model after whatever replaces its parameters"
                )

    def _require_stepped(self, optimizer: Any, still: set[int]) -> None:
        """Refuse an optimizer that steps on other tensors than the parameters that are confined or stand still."""
        stepped = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        if alien := [name for name, parameter in self._confined.items() if id(parameter) not in stepped]:
            raise UsageError(
                f"the optimizer does not step on {alien[0]}: it may hold copies (DeepSpeed, flat parameters), "
                "or have been built before the model was wrapped"
            )
        if loose := [name for name, p in self._model.named_parameters() if id(p) in still - stepped]:
            raise UsageError(
                f'unselected="frozen": the optimizer does not step on {loose[0]}, and another may move it (weight '
                "decay needs no gradient); take it out of training with requires_grad_(False) first"
            )


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


def _matched(model: nn.Module, channel: Channel) -> dict[str, nn.Parameter]:
    """The parameters that a channel confines. Raises UsageError where any is not as it should be."""
    if has_adapter(model):
        raise UsageError("the model has an adapter, whose updates no channel of its weights confines; merge it first")
    known = matrices(model)
    for name, v in channel.vectors.items():
        parameter = known.get(name)
        if parameter is None:
            raise UsageError(
                f"the model has no weight {name} that could be constrained: there is none, or it is not the 2-D (out, "
                "in) weight of a linear map (fused, transposed or adapted ones are not followed); it has "
                f"{', '.join(sorted(known)[:3]) or 'none'}"
            )
        if parameter.shape[1] != v.shape[0]:
            raise UsageError(f"{name}: in {parameter.shape[1]} in the model, but {v.shape[0]} in the channel")
        if not parameter.requires_grad:
            raise UsageError(f"{name} is not trained (requires_grad is False), so there is nothing to constrain")
        if parameter in _constrained:
            raise UsageError(f"{name} is constrained already; remove() that constraint first")
        local(parameter)
    return {name: known[name] for name in sorted(channel.vectors)}


def _unwrapped(optimizer: Any) -> Any:
    """The optimizer that steps, without what accelerate wraps around it."""
    while isinstance(inner := getattr(optimizer, "optimizer", None), torch.optim.Optimizer):
        optimizer = inner
    return optimizer


def _beside(v: Tensor, parameter: nn.Parameter) -> Tensor:
    """V where a parameter is, orthonormal to the precision in which it is projected: twice is then once."""
    return torch.linalg.qr(v.double()).Q.to(parameter.device, torch.promote_types(parameter.dtype, torch.float32))
