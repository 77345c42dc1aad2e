"""Projected training: the updates of a live model's weights are confined to a channel, ``D = D V V^T``.

What is guaranteed, up to the rounding of the weights' own format:

- ``how="gradient"``: the optimizer sees ``g V V^T``, and so does clipping. Whatever steps along a linear combination of
  the gradients it saw stays in the channel: SGD, also with momentum. Adam divides by the root of its second moment
  entry by entry, which leads out of the channel; so do weight decay of any kind and Muon's orthogonalised step.
- ``how="step"``: after each step ``W <- W_before + (W - W_before) V V^T``. The cumulative update stays in the channel
  for any optimizer, decoupled weight decay included. During the step one more copy of the constrained weights is held.
  Gradients and the optimizer's moments are left as they are, and clipping sees the full gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from geomcheck.checkpoints import BaseWeights, Run
from geomcheck.checkpoints.constraint import CHANNEL_FILE, Constraint, How, Unselected
from geomcheck.checkpoints.weights import describe
from geomcheck.errors import RunError, UsageError
from geomcheck.projection.channel import Channel
from geomcheck.projection.learned import At
from geomcheck.projection.parameters import adapted, matrices
from geomcheck.projection.subspace import local, projected
from geomcheck.record import Record
from geomcheck.suite.language.selection import DEFAULT, Selection

LINEAR_STATE = ("momentum_buffer", "exp_avg")
"""Optimizer state that is a linear combination of gradients."""

Source = Channel | Run | Record | str | Path

_constrained: Any = WeakTensorKeyDictionary()


def constrain_updates(
    model: nn.Module,
    source: Source,
    *,
    k: int = 16,
    at: At = "20%",
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
        how: project the gradient, as the paper does, or the step; see above for what each guarantees.
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
    channel = _channel(source, k=k, at=at, base=base, weights=weights, leave_out_undefined=leave_out_undefined)
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
    if (channel.drawn, channel.k, channel.seed, len(channel.vectors)) != (
        known.channel,
        known.k,
        known.seed,
        known.weights,
    ):
        raise RunError(f"{checkpoint}: {CHANNEL_FILE} is not the channel that the constraint speaks of")
    return Projection(
        model,
        channel,
        how=known.how,
        unselected=known.unselected,
        optimizer=optimizer,
        start_step=known.start_step,
    )


class Projection:
    """A constraint in force, as `constrain_updates` makes it.

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
        self._optimizer = _unwrapped(optimizer)
        self._confined = _matched(model, channel)
        self._vectors = {name: _beside(channel.vectors[name], p) for name, p in self._confined.items()}
        inside = {id(parameter) for parameter in self._confined.values()}
        others = [p for p in model.parameters() if p.requires_grad and id(p) not in inside]
        self._frozen = others if unselected == "frozen" else []
        self._before: dict[str, Tensor] = {}
        self._require_optimizer()
        self._hooks = [*self._freeze(), *(self._confine_gradients() if how == "gradient" else self._confine_steps())]
        for parameter in self._confined.values():
            _constrained[parameter] = True

    def remove(self) -> None:
        """Let all parameters go; what was trained stays as it is."""
        for hook in self._hooks:
            hook.remove()
        self._hooks, self._before = [], {}
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

    def _require_optimizer(self) -> None:
        if self._optimizer is None:
            if self._frozen or self.constraint.how == "step":
                raise UsageError('how="step" and unselected="frozen" need the optimizer: give optimizer=')
            return
        stepped = {id(parameter) for group in self._optimizer.param_groups for parameter in group["params"]}
        if alien := [name for name, parameter in self._confined.items() if id(parameter) not in stepped]:
            raise UsageError(
                f"the optimizer does not step on {alien[0]}: it may hold copies (DeepSpeed, flat parameters), "
                "or have been built before the model was wrapped"
            )
        if loose := [name for name, p in self._model.named_parameters() if id(p) in self._frozen_ids() - stepped]:
            raise UsageError(
                f'unselected="frozen": the optimizer does not step on {loose[0]}, and another may move it (weight '
                "decay needs no gradient); take it out of training with requires_grad_(False) first"
            )

    def _frozen_ids(self) -> set[int]:
        return {id(parameter) for parameter in self._frozen}

    def _freeze(self) -> list[Any]:
        """Zero what is frozen before it is reduced or clipped, and hide it from the optimizer, which skips None."""
        if not self._frozen:
            return []
        zeroed = [_after_accumulation(parameter, _zero_gradient) for parameter in self._frozen]
        return [*zeroed, self._optimizer.register_step_pre_hook(self._hide_frozen)]

    @torch.no_grad()
    def _hide_frozen(self, *_: Any) -> None:
        for parameter in self._frozen:
            parameter.grad = None

    def _confine_gradients(self) -> list[Any]:
        """Project each gradient as it is accumulated, hence before it is averaged over ranks and clipped."""
        hooks: list[Any] = [
            _after_accumulation(parameter, _gradient_hook(self._vectors[name]))
            for name, parameter in self._confined.items()
        ]
        if self._optimizer is not None:
            self._confine_momentum()
            hooks.append(self._optimizer.register_step_pre_hook(self._confine_accumulated))
        return hooks

    @torch.no_grad()
    def _confine_momentum(self) -> None:
        for name, parameter in self._confined.items():
            state = self._optimizer.state.get(parameter, {})
            for key in LINEAR_STATE:
                if isinstance(state.get(key), Tensor):
                    _project(state[key], self._vectors[name])

    @torch.no_grad()
    def _confine_accumulated(self, *_: Any) -> None:
        for name, parameter in self._confined.items():
            if parameter.grad is not None:
                _project(parameter.grad, self._vectors[name])

    def _confine_steps(self) -> list[Any]:
        return [
            self._optimizer.register_step_pre_hook(self._remember),
            self._optimizer.register_step_post_hook(self._confine_step),
        ]

    @torch.no_grad()
    def _remember(self, *_: Any) -> None:
        self._before = {name: local(parameter).clone() for name, parameter in self._confined.items()}

    @torch.no_grad()
    def _confine_step(self, *_: Any) -> None:
        for name, parameter in self._confined.items():
            rows, before = local(parameter), self._before.pop(name)
            rows.copy_(before + projected(rows - before, self._vectors[name]))


def _channel(
    source: Source,
    *,
    k: int,
    at: At,
    base: BaseWeights | str | Path | None,
    weights: Selection | None,
    leave_out_undefined: bool,
) -> Channel:
    """The channel of a source, by what it is."""
    chosen = weights or DEFAULT
    if isinstance(source, Channel):
        return source
    if isinstance(source, str | Path):
        path = Path(source)
        if path.suffix == ".safetensors" or (path / CHANNEL_FILE).exists():
            return Channel.load(path)
        if not path.is_file():
            return Channel.of_run(path, k=k, at=at, base=base, weights=chosen, leave_out_undefined=leave_out_undefined)
    if isinstance(source, Run):
        return Channel.of_run(source, k=k, at=at, base=base, weights=chosen, leave_out_undefined=leave_out_undefined)
    return Channel.of_record(source, k=k, at=at, weights=chosen, leave_out_undefined=leave_out_undefined)


def _matched(model: nn.Module, channel: Channel) -> dict[str, nn.Parameter]:
    """The parameters that a channel confines. Raises UsageError where any is not as it should be."""
    if adapted(model):
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


def _after_accumulation(parameter: Any, hook: Callable[[Tensor], None]) -> Any:
    """Call `hook` whenever a gradient was added to ``parameter.grad``; fully_shard does so too."""
    return parameter.register_post_accumulate_grad_hook(hook)


def _gradient_hook(v: Tensor) -> Callable[[Tensor], None]:
    @torch.no_grad()
    def hook(parameter: Tensor) -> None:
        if parameter.grad is not None:
            _project(parameter.grad, v)

    return hook


@torch.no_grad()
def _zero_gradient(parameter: Tensor) -> None:
    if parameter.grad is not None:
        parameter.grad.zero_()


def _project(tensor: Tensor, v: Tensor) -> None:
    rows = local(tensor)
    rows.copy_(projected(rows, v))


def shapes_of(model: nn.Module, weights: Selection = DEFAULT) -> Mapping[str, tuple[int, ...]]:
    """The shapes of the matrices that would be constrained by default, for `Channel.random`."""
    described = {name: describe(name, tuple(p.shape)) for name, p in matrices(model).items()}
    return {weight.name: weight.shape for weight in weights.select(described)}
