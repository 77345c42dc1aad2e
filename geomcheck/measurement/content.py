"""Weights by content: a digest of what a tensor holds, whatever file it came from."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor


def digest(tensor: Tensor) -> str:
    """Digest of shape, format and every bit of a tensor on the CPU."""
    content = hashlib.blake2b(f"{tensor.dtype}{tuple(tensor.shape)}".encode(), digest_size=16)
    content.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return content.hexdigest()
