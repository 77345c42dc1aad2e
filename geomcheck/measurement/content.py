"""Weights by content: a digest of what a tensor holds, whatever file it came from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from geomcheck.checkpoints.source import Change
from geomcheck.imports import late

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = late("torch")


def digest(stored: Tensor | Change) -> str:
    """Digest of shape, format and every bit of a tensor on the CPU; of an adapter's change, of its kind and tensors."""
    content = hashlib.blake2b(b"" if isinstance(stored, torch.Tensor) else stored.kind.encode(), digest_size=16)
    for tensor in (stored,) if isinstance(stored, torch.Tensor) else stored.tensors:
        content.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        content.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return content.hexdigest()


def fingerprint(digests: Mapping[str, str]) -> str:
    """Digest of the weights of one checkpoint, from the digests of each by name."""
    content = hashlib.blake2b(digest_size=16)
    for name in sorted(digests):
        content.update(f"{name}={digests[name]}\n".encode())
    return content.hexdigest()
