"""Synthetic weights with a realistic spectrum, and updates with the support that the paper reports.

Lognormal row and column scales over noise, power-law spikes, stored as bf16. Conclusions on speed follow from the
shapes; conclusions that depend on the spectrum need a look at real weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Kind:
    """A training method, as its updates look.

    Attributes:
        support: fraction of entries that visibly change at the last checkpoint.
        structured: share of the update's standard deviation in a few directions, of 1.
    """

    support: float
    structured: float


KINDS = {"opd": Kind(0.50, 0.7), "rlvr": Kind(0.23, 0.7), "sft": Kind(0.91, 0.9)}

SHAPES_06B = {
    "q": (2048, 1024),
    "k": (1024, 1024),
    "v": (1024, 1024),
    "o": (1024, 2048),
    "gate": (3072, 1024),
    "up": (3072, 1024),
    "down": (1024, 3072),
}


def trajectory(shape: tuple[int, int], kind: Kind, checkpoints: int, seed: int = 0) -> tuple[Tensor, list[Tensor]]:
    """W0 and W_1..W_T in bf16, the last with `kind.support` of its entries changed."""
    generator = torch.Generator().manual_seed(seed)
    out, in_ = shape

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator)

    def low_rank(rank: int) -> Tensor:
        values = torch.arange(1.0, rank + 1) ** -0.7
        return (normal(out, rank) * values) @ normal(rank, in_)

    spikes = low_rank(min(64, in_))
    bulk = normal(out, in_) * (0.3 * normal(out, 1)).exp() * (0.3 * normal(1, in_)).exp()
    w0 = (0.02 * bulk + 0.01 * spikes / spikes.std()).bfloat16()
    first, second, noise = low_rank(24), low_rank(24), normal(out, in_)

    def direction(share: float) -> Tensor:
        step = share * first + share**2 * 0.5 * second
        rest = (1 - kind.structured**2) ** 0.5
        return kind.structured * share * step / step.std() + rest * share**0.5 * noise

    scale = _scale(w0, direction(1.0), kind.support)
    return w0, [(w0.float() + scale * direction(t / checkpoints)).bfloat16() for t in range(1, checkpoints + 1)]


def _scale(w0: Tensor, direction: Tensor, support: float) -> float:
    """Multiple of `direction` that changes `support` of the entries of W0 in bf16, by bisection on a sample."""
    rows = slice(0, max(1, (1 << 18) // w0.shape[1]))
    before, step = w0[rows], direction[rows]
    low, high = 1e-8, 1.0
    for _ in range(40):
        middle = (low * high) ** 0.5
        changed = ((before.float() + middle * step).bfloat16() != before).float().mean().item()
        low, high = (middle, high) if changed < support else (low, middle)
    return high
