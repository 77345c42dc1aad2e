"""A length that the largest singular value is proven to reach, for a few products: any unit v has it ``>= |A v|``."""

from __future__ import annotations

import math

import torch

from geomcheck.diagnostics.linalg.kernels import eigh, orthonormal, product
from geomcheck.diagnostics.linalg.scaling import Scaled

WIDTH, PASSES = 8, 3
"""Columns that are iterated together, and how often: of trained updates it is then within some percent of sigma_1, for
a tenth of the time that a certified sigma_1 takes."""


def reached(delta: Scaled) -> float:
    """``|A v| / |v|`` for a v of the power iteration: sigma_1 is no less, as what rounding may add is taken off.

    An error of ``n u |A|_F |x|`` is the most that a product with x in a precision u makes, in whatever order it is
    summed (Higham, Accuracy and Stability, 3.5), and one of ``u |A|_F |x|`` the rounding of `delta`.

    >>> round(reached(Scaled(torch.diag(torch.tensor([3.0, 1.0, 0.5]).double()), exponent=1)), 6)
    6.0
    """
    matrix = delta.matrix
    tall = matrix.T if matrix.shape[0] < matrix.shape[1] else matrix
    start = torch.randn(tall.shape[1], WIDTH, generator=torch.Generator().manual_seed(0))
    block = orthonormal(start.to(tall))
    for _ in range(PASSES - 1):
        block = orthonormal(product(tall.T, product(tall, block)))
    images, block = product(tall, block).double(), block.double()
    mixed = eigh(images.T @ images)[1][:, -1]
    norm = torch.linalg.vector_norm
    unit = torch.finfo(tall.dtype).eps * norm(tall).item()  # eps is 2 u: twice what is needed
    length = norm(block @ mixed).item()
    lost = unit * (tall.shape[1] * norm(block).item() * norm(mixed).item() + length)
    return max(0.0, norm(images @ mixed).item() - lost) / length * math.ldexp(1.0, delta.exponent)
