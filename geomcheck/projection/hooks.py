"""What confines a training while it goes on: ``D V V^T`` of gradients, and of what the optimizer's steps add.

Functions that take `Confined`, parameters (out, in) with their V (in, k), register hooks and return the handles.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from geomcheck.errors import UsageError

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


def projected(rows: Tensor, v: Tensor) -> Tensor:
    """``rows V V^T``: the part of each row inside the channel.

    Args:
        rows: shape (any, in); all rows of a matrix or some of them, for the projection acts on columns.
        v: orthonormal columns, shape (in, k).

    Returns:
        In the dtype of `rows`, computed in fp32 at least.
    """
    dtype = torch.promote_types(rows.dtype, v.dtype)
    v = v.to(dtype)
    return ((rows.to(dtype) @ v) @ v.T).to(rows.dtype)


def project_(tensor: Tensor, v: Tensor) -> None:
    """Project a matrix (out, in) in place, by the rows that lie on this rank. Raises as `local`."""
    rows = local(tensor)
    rows.copy_(projected(rows, v))


def local(tensor: Tensor) -> Tensor:
    """The rows of a matrix that lie on this rank. Raises UsageError where they are not whole on any rank."""
    distributed: Any = tensor
    for placement in getattr(tensor, "placements", ()):
        if not (placement.is_replicate() or placement.is_shard(0)):
            raise UsageError(
                f"a parameter of shape {tuple(tensor.shape)} is placed as {placement}: a projection needs whole rows; "
                "shard by rows (dimension 0), as fully_shard does by default"
            )
    return distributed.to_local() if hasattr(tensor, "placements") else tensor
