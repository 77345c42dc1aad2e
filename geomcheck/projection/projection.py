"""Projected training in force: the updates of a live model's weights are confined to a channel, ``D = D V V^T``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from geomcheck.checkpoints.constraint import Constraint, How, Unselected
from geomcheck.errors import UsageError
from geomcheck.live.loop.parameters import has_adapter
from geomcheck.projection.channel import Channel
from geomcheck.projection.hooks import confined_gradients, confined_steps, frozen, local
from geomcheck.projection.parameters import matrices

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
        self,
        model: nn.Module,
        channel: Channel,
        *,
        how: How,
        unselected: Unselected,
        optimizer: Any,
        start_step: int,
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
