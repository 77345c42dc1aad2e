"""The elements of a tensor, or of a slice of it, from the file in which they lie."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import TYPE_CHECKING

from geomcheck.checkpoints.formats.torch_save.tensors import Packed

if TYPE_CHECKING:
    from torch import Tensor


def read_elements(path: Path, packed: Packed) -> Tensor:
    """Map a tensor: the bytes from its first element to its last, and for as long as the tensor lives.

    Raises:
        OSError: the file cannot be mapped.
        ValueError: it ends before.
    """
    import torch

    dtype = getattr(torch, packed.dtype.name)
    span = packed.span
    if span.nbytes == 0:
        return torch.empty(packed.shape, dtype=dtype)
    skipped = span.offset % mmap.ALLOCATIONGRANULARITY
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), skipped + span.nbytes, access=mmap.ACCESS_COPY, offset=span.offset - skipped)
    content = torch.frombuffer(mapped, dtype=torch.uint8, count=span.nbytes, offset=skipped)
    if span.offset % packed.dtype.nbytes:  # neither the legacy format nor a part of a file aligns anything
        content = content.clone()
    return content.view(dtype).as_strided(packed.shape, packed.stride)
