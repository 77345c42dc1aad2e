"""What confines a training while it goes on: hooks on gradients and on the optimizer's steps.

Each function registers hooks and returns their handles. `Confined` are parameters (out, in), each with its V (in, k).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from geomcheck.projection.subspace import local, project_, projected

LINEAR_STATE = ("momentum_buffer", "exp_avg")
"""Optimizer state that is a linear combination of gradients."""

Confined = Sequence[tuple[nn.Parameter, Tensor]]


def confined_gradients(confined: Confined, optimizer: Any) -> list[Any]:
    """Project each gradient as it is accumulated, hence before it is averaged over ranks and clipped.

    With an optimizer, its momentum is projected now, and what it is about to step on before each step.
    """

    def before_step(*_: Any) -> None:
        for parameter, v in confined:
            _project_gradient(v, parameter)

    hooks = [_after_accumulation(parameter, partial(_project_gradient, v)) for parameter, v in confined]
    if optimizer is not None:
        _project_momentum(confined, optimizer)
        hooks.append(optimizer.register_step_pre_hook(before_step))
    return hooks


def confined_steps(confined: Confined, optimizer: Any) -> list[Any]:
    """Project what each step adds to the weights."""
    before: list[Tensor] = []

    @torch.no_grad()
    def remember(*_: Any) -> None:
        before[:] = [local(parameter).clone() for parameter, _ in confined]

    @torch.no_grad()
    def confine(*_: Any) -> None:
        for (parameter, v), old in zip(confined, before, strict=True):
            rows = local(parameter)
            rows.copy_(old + projected(rows - old, v))
        before.clear()

    return [optimizer.register_step_pre_hook(remember), optimizer.register_step_post_hook(confine)]


def frozen(parameters: Sequence[nn.Parameter], optimizer: Any) -> list[Any]:
    """Zero gradients before they are reduced or clipped, and hide them from the optimizer, which skips None."""
    if not parameters:
        return []

    def hide(*_: Any) -> None:
        for parameter in parameters:
            parameter.grad = None

    hooks = [_after_accumulation(parameter, _zero_gradient) for parameter in parameters]
    return [*hooks, optimizer.register_step_pre_hook(hide)]


def _after_accumulation(parameter: Any, hook: Callable[[Tensor], None]) -> Any:
    """Call `hook` whenever a gradient was added to ``parameter.grad``; fully_shard does so too."""
    return parameter.register_post_accumulate_grad_hook(hook)


@torch.no_grad()
def _project_gradient(v: Tensor, parameter: Tensor) -> None:
    if parameter.grad is not None:
        project_(parameter.grad, v)


@torch.no_grad()
def _project_momentum(confined: Confined, optimizer: Any) -> None:
    for parameter, v in confined:
        state = optimizer.state.get(parameter, {})
        for key in LINEAR_STATE:
            if isinstance(state.get(key), Tensor):
                project_(state[key], v)


@torch.no_grad()
def _zero_gradient(parameter: Tensor) -> None:
    if parameter.grad is not None:
        parameter.grad.zero_()
