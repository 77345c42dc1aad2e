"""Projection onto a channel, ``D V V^T``: of whole matrices, and of the rows of sharded ones."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from geomcheck.errors import UsageError


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


def share_outside(update: Tensor, v: Tensor) -> float:
    """Share of an update outside a channel, ``|D - D V V^T|_F^2 / |D|_F^2``, 0..1; 0 of a zero update.

    Args:
        update: D, shape (out, in).
        v: shape (in, k); its columns are made orthonormal in float64 first.
    """
    d, basis = update.double(), torch.linalg.qr(v.double()).Q
    energy = float(d.square().sum())
    return float((d - (d @ basis) @ basis.T).square().sum()) / energy if energy else 0.0


def local(tensor: Tensor) -> Tensor:
    """The rows of a matrix that lie on this rank: all of them, unless it is a DTensor that is sharded by rows.

    Raises:
        UsageError: it is sharded in another manner, so that a row is not whole on any rank.
    """
    distributed: Any = tensor
    if not hasattr(tensor, "placements"):
        return tensor
    for placement in distributed.placements:
        if not (placement.is_replicate() or placement.is_shard(0)):
            raise UsageError(
                f"a parameter of shape {tuple(tensor.shape)} is placed as {placement}: a projection needs whole rows; "
                "shard by rows (dimension 0), as fully_shard does by default"
            )
    return distributed.to_local()


def gathered(tensor: Tensor) -> Tensor:
    """The whole of a tensor; where it is sharded, every rank has to ask for it."""
    distributed: Any = tensor
    return distributed.full_tensor() if hasattr(tensor, "placements") else tensor
