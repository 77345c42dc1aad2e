"""Products, Gram matrices and symmetric eigenproblems, by whatever is fastest where the matrix lies."""

from __future__ import annotations

import numpy as np
import scipy.linalg
import torch
from torch import Tensor

NUMPY_ON_CPU = True
"""Whether matrices on the CPU take numpy's symmetric product and eigenpairs; both agree with torch's to rounding."""

ONEDNN_ON_CPU = torch.backends.cpu.get_cpu_capability() == "AVX512" and hasattr(torch.ops.mkldnn, "_linear_pointwise")
"""Whether float32 products on the CPU take oneDNN: it uses AVX512 wherever there is any, MKL on some makes only."""


def product(left: Tensor, right: Tensor) -> Tensor:
    """``left @ right`` of two matrices."""
    on_cpu = left.device.type == "cpu" and left.dtype == right.dtype == torch.float32
    if not (ONEDNN_ON_CPU and on_cpu and left.numel() and right.numel()):
        return left @ right
    if left.T.is_contiguous() and left.numel() > right.numel():
        return product(right.T, left.T).T  # what is on the left is copied where its rows are not contiguous
    if not right.T.is_contiguous():
        right = right.contiguous()  # of other strides it has no fast kernel
    return torch.ops.mkldnn._linear_pointwise(left, right.T, None, "none", [], "")


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


def eigenpairs(symmetric: Tensor) -> tuple[Tensor, Tensor]:
    """All eigenvalues, descending, and their eigenvectors as columns."""
    if NUMPY_ON_CPU and symmetric.device.type == "cpu":
        values, vectors = map(torch.from_numpy, np.linalg.eigh(symmetric.numpy()))
    else:
        values, vectors = torch.linalg.eigh(symmetric)
    return values.flip(0), vectors.flip(1)


def leading_eigenvectors(symmetric: Tensor, count: int) -> Tensor:
    """Eigenvectors of the `count` largest eigenvalues, descending, as columns."""
    if NUMPY_ON_CPU and symmetric.device.type == "cpu":  # scipy finds a part of the spectrum, torch does not
        size = len(symmetric)
        wanted = (size - count, size - 1)
        _, vectors = scipy.linalg.eigh(symmetric.numpy(), subset_by_index=wanted, driver="evr", check_finite=False)
        return torch.from_numpy(vectors).flip(1)
    return eigenpairs(symmetric)[1][:, :count]
