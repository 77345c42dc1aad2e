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


def project_(tensor: Tensor, v: Tensor) -> None:
    """Project a matrix (out, in) in place, by the rows that lie on this rank. Raises as `local`."""
    rows = local(tensor)
    rows.copy_(projected(rows, v))


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
