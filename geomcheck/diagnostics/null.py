"""The null of a figure: what it would be for an update of the same sizes without any geometry.

Large weights need large steps to be seen in bf16, so mask overlaps follow the density of an update whatever
its direction. `excess_over: shuffled` subtracts the mean figure of a few seeded structureless updates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np

from geomcheck._lazy import late, torch
from geomcheck.diagnostics.declaration import Compute, Parameter, RunView
from geomcheck.errors import Undefined

if TYPE_CHECKING:
    from geomcheck.diagnostics import storage
    from geomcheck.diagnostics import update as updates
    from geomcheck.diagnostics.update import Update
else:
    storage = late("geomcheck.diagnostics.storage")
    updates = late("geomcheck.diagnostics.update")

SHUFFLES = 4
"""Structureless updates behind one null; seeds 0..SHUFFLES-1."""

EXCESS_OVER = Parameter(
    name="excess_over",
    kind="choice",
    choices=("none", "shuffled"),
    default="none",
    about="Report the figure itself, or its excess over the same figure of seeded structureless updates: D_t with "
    "its entries permuted (for mask overlaps of bf16 checkpoints: noise of the same density).",
)

Null = Callable[["Update", int], "Update"]


def shuffled(update: Update, seed: int) -> Update:
    """The same entries of D_t at random places of the matrix, not rounded again: norm and sizes stay exact."""
    order = torch.randperm(update.matrix.numel(), generator=_generator(seed)).to(update.wt.device)
    return updates.Update(update.base, update.base.matrix + update.matrix.flatten()[order].view(update.shape))


def equally_visible(update: Update, seed: int) -> Update:
    """A structureless update that is as visible in bf16 as D_t.

    The permuted D_t, except for bf16 checkpoints: their D_t has been rounded to the weights it sits on, and is
    rounded away on larger ones (a structureless update of density .53 would show .38). There it is Gaussian
    noise, scaled so that exactly as many entries change.
    """
    if update.wt.dtype != torch.bfloat16 or update.density == 0:
        return shuffled(update, seed)
    before = update.base.matrix
    noise = torch.randn(update.shape, generator=_generator(seed), dtype=torch.float64).to(before.device)
    stored = before.to(torch.bfloat16)
    neighbour = torch.nextafter(stored, noise.sign().to(torch.bfloat16) * torch.inf)
    # torch casts fp64 to bf16 by way of fp32: two fp32 steps past the middle are sure to round away from `stored`
    boundary = (stored.double() + neighbour.double()) / 2 + noise.sign() * stored.double().abs() * 2.0**-22
    critical = ((boundary - before) / noise).abs().flatten().cpu().numpy()  # the scale at which each entry changes
    last = storage.count(update.changed) - 1
    scale = float(np.partition(critical, last)[last])
    return updates.Update(update.base, before + scale * noise)


def with_null(compute: Compute, null: Null = shuffled) -> Compute:
    """Give `compute` the parameter `excess_over`, over structureless updates made by `null`.

    With ``shuffled``, each statistic is the excess; ``observed.X`` and ``null.X`` hold both of its terms.
    """

    def computed(update: Update, params: Mapping[str, Any], run: RunView) -> Mapping[str, float]:
        own = {name: value for name, value in params.items() if name != EXCESS_OVER.name}
        observed = compute(update, own, run)
        if params[EXCESS_OVER.name] == "none":
            return observed
        try:
            nulls = [compute(null(update, seed), own, run) for seed in range(SHUFFLES)]
        except Undefined as reason:
            raise Undefined(f"the structureless update, which is the null, has no figure: {reason}") from reason
        figures: dict[str, float] = {}
        for stat, value in observed.items():
            expected = fmean(figure[stat] for figure in nulls)
            figures |= {stat: value - expected, f"observed.{stat}": value, f"null.{stat}": expected}
        return figures

    return computed


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
