"""Gram matrices and symmetric eigenproblems, by whatever is fastest where the matrix lies."""

from __future__ import annotations

import numpy as np
import scipy.linalg
import torch
from torch import Tensor

NUMPY_ON_CPU = True
"""Whether matrices on the CPU take numpy's symmetric product; the answers agree to rounding either way."""


def gram(tall: Tensor) -> Tensor:
    """``A^T A`` in the dtype of A."""
    if NUMPY_ON_CPU and tall.device.type == "cpu":
        matrix = tall.numpy()
        with np.errstate(over="ignore", invalid="ignore"):  # seen by whoever gets a figure that is not finite
            square = tall.new_empty(tall.shape[1], tall.shape[1])  # aligned as other tensors: same bits every time
            np.matmul(matrix.T, matrix, out=square.numpy())  # numpy knows that this is symmetric: half of the work
            return square
    return tall.T @ tall


def gram64(tall: Tensor) -> Tensor:
    """``A^T A`` in float64."""
    return gram(tall.double())


def leading_eigenvectors(symmetric: Tensor, count: int) -> Tensor:
    """Eigenvectors of the `count` largest eigenvalues, descending, as columns."""
    if NUMPY_ON_CPU and symmetric.device.type == "cpu":  # scipy finds a part of the spectrum, torch does not
        size = len(symmetric)
        wanted = (size - count, size - 1)
        _, vectors = scipy.linalg.eigh(symmetric.numpy(), subset_by_index=wanted, driver="evr", check_finite=False)
        return torch.from_numpy(vectors).flip(1)
    return torch.linalg.eigh(symmetric).eigenvectors.flip(1)[:, :count]
