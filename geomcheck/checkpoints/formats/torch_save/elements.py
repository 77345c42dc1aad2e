"""The elements of a tensor, or of a slice of it, from the file in which they lie."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from geomcheck.checkpoints.formats.raw import read_bytes
from geomcheck.checkpoints.formats.torch_save.tensors import Packed

if TYPE_CHECKING:
    from torch import Tensor


def read_elements(path: Path, packed: Packed) -> Tensor:
    """Read a tensor: the bytes from its first element to its last.

    Raises:
        OSError: the file cannot be read.
        ValueError: it ends before.
    """
    import torch

    dtype = getattr(torch, packed.dtype.name)
    span = packed.span
    if span.nbytes == 0:
        return torch.empty(packed.shape, dtype=dtype)
    return read_bytes(path, span.offset, span.nbytes).view(dtype).as_strided(packed.shape, packed.stride)
