"""Products, Gram matrices and factorizations, by whatever is fastest where the matrix lies.

What is `stackable` takes any leading dimensions: for weights that are measured in lockstep it is done at once.
"""

from __future__ import annotations

import numpy as np
import scipy.linalg
import torch
from torch import Tensor

from geomcheck.diagnostics.linalg.lockstep import stackable

NUMPY_ON_CPU = True
"""Whether matrices on the CPU take numpy's symmetric product and eigenvalues, which agree with torch's to rounding."""

ONEDNN_ON_CPU = torch.backends.cpu.get_cpu_capability() == "AVX512" and hasattr(torch.ops.mkldnn, "_linear_pointwise")
"""Whether float32 products on the CPU take oneDNN: it uses AVX512 wherever there is any, MKL on some makes only."""


def product(left: Tensor, right: Tensor) -> Tensor:
    """``left @ right`` of matrices of shapes (m, n) and (n, p)."""
    on_cpu = left.device.type == "cpu" and left.dtype == right.dtype == torch.float32
    if not (ONEDNN_ON_CPU and on_cpu and left.numel() and right.numel()):
        return left @ right
    if left.T.is_contiguous() and left.numel() > right.numel():
        return product(right.T, left.T).T  # what is on the left is copied where its rows are not contiguous
    if not right.T.is_contiguous():
        right = right.contiguous()  # of other strides it has no fast kernel
    return torch.ops.mkldnn._linear_pointwise(left, right.T, None, "none", [], "")


def products(left: Tensor, right: Tensor) -> Tensor:
    """``left @ right`` of stacks of shapes (b, m, n) and (b, n, p); on the left one matrix may stand for all."""
    if left.device.type != "cpu":
        return left @ right
    pairs = zip(left.expand(len(right), -1, -1), right, strict=True)
    return torch.stack([product(one, other) for one, other in pairs])


def gram(tall: Tensor) -> Tensor:
    """``A^T A``, shape (n, n), in the dtype of A, shape (m, n)."""
    if by_numpy(tall):
        matrix = tall.numpy()
        with np.errstate(over="ignore", invalid="ignore"):  # seen by whoever gets a figure that is not finite
            square = tall.new_empty(tall.shape[1], tall.shape[1])  # aligned as other tensors: same bits every time
            np.matmul(matrix.T, matrix, out=square.numpy())  # numpy knows that this is symmetric: half of the work
            return square
    return tall.T @ tall


@stackable(cost=16)
def eigenpairs(symmetric: Tensor) -> tuple[Tensor, Tensor]:
    """All eigenvalues, descending, and their eigenvectors as columns, shapes (n,) and (n, n); for large matrices."""
    if by_numpy(symmetric):
        values, vectors = map(torch.from_numpy, np.linalg.eigh(symmetric.numpy()))
    else:
        values, vectors = torch.linalg.eigh(symmetric)
    return values.flip(-1), vectors.flip(-1)


@stackable(cost=16)
def eigh(symmetric: Tensor) -> tuple[Tensor, Tensor]:
    """All eigenvalues, ascending, and their eigenvectors as columns, shapes (n,) and (n, n); for small matrices."""
    values, vectors = torch.linalg.eigh(symmetric)
    return values, vectors


@stackable(cost=8)
def eigvalsh(symmetric: Tensor) -> Tensor:
    """All eigenvalues, ascending, shape (n,)."""
    if by_numpy(symmetric):
        return torch.from_numpy(np.linalg.eigvalsh(symmetric.numpy()))
    return torch.linalg.eigvalsh(symmetric)


def leading_eigenpairs(symmetric: Tensor, count: int, *, overwrite: bool = False) -> tuple[Tensor, Tensor]:
    """The `count` largest eigenvalues, descending, and their eigenvectors, shapes (count,) and (n, count)."""
    if not by_numpy(symmetric):
        values, vectors = eigenpairs(symmetric)
        return values[:count], vectors[:, :count]
    wanted = (len(symmetric) - count, len(symmetric) - 1)
    values, vectors = scipy.linalg.eigh(
        symmetric.numpy(), subset_by_index=wanted, driver="evr", overwrite_a=overwrite, check_finite=False
    )
    return torch.from_numpy(values).flip(0), torch.from_numpy(vectors).flip(1)


@stackable(cost=1)
def cholesky(positive: Tensor) -> Tensor:
    """The lower triangle L of ``A = L L^T``, shape (n, n)."""
    return torch.linalg.cholesky(positive)


@stackable(cost=2)
def solve_triangular(triangle: Tensor, right: Tensor, *, upper: bool) -> Tensor:
    """The X of ``triangle X = right``, of the shape of `right`, (n, p)."""
    return torch.linalg.solve_triangular(triangle, right, upper=upper)


@stackable(cost=4)
def orthonormal(matrix: Tensor) -> Tensor:
    """The Q of ``A = Q R``: an orthonormal basis of the columns, shape (m, min(m, n))."""
    return torch.linalg.qr(matrix).Q


@stackable(cost=32)
def svd(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """U, the singular values, descending, and V^T: shapes (m, r), (r,) and (r, n) with r = min(m, n)."""
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    return left, values, right


@stackable(cost=16)
def svdvals(matrix: Tensor) -> Tensor:
    """All singular values, descending, shape (min(m, n),)."""
    return torch.linalg.svdvals(matrix)


def by_numpy(matrix: Tensor) -> bool:
    """Whether numpy and scipy answer, whatever the shape: they find the largest eigenpairs alone, torch finds all."""
    return NUMPY_ON_CPU and matrix.device.type == "cpu"
