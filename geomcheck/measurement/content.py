"""The content of weights: whether it is finite, and its digest, whatever file it came from."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from blake3 import blake3

from geomcheck._lazy import torch
from geomcheck.checkpoints import Change
from geomcheck.errors import RunError
from geomcheck.record import digests

if TYPE_CHECKING:
    from torch import Tensor

_MASK = re.compile(r"mask(?:ed_bias)?$")
"""Attention masks that older models store as buffers: their -1e9 becomes -inf in fp16."""

DIGEST_BYTES = 16
"""Of a digest that is kept: two contents that share one by chance are not to be expected before 2^64 of them."""


def tensors_of(stored: Tensor | Change) -> tuple[Tensor, ...]:
    """The tensors that were read: one, or those of which an adapter's change is made."""
    return (stored,) if isinstance(stored, torch.Tensor) else stored.tensors


def require_finite(stored: Tensor | Change, where: str, name: str = "") -> None:
    """Refuse NaN and infinity, by the extremes: they are NaN where any entry is. A tensor whose `name` is a mask's may
    hold -inf. Raises RunError with the checkpoint, `where`, and the name where it is given."""
    lowest = -math.inf if _MASK.search(name) else -sys.float_info.max
    of = f" of {name}" if name else ""
    hence = ": no model runs with these, so the checkpoint is damaged, or training had diverged" if name else ""
    for tensor in tensors_of(stored):
        entries = tensor.float() if tensor.element_size() == 1 else tensor  # torch has no extremes of fp8
        least, most = map(float, torch.aminmax(entries)) if entries.numel() else (0.0, 0.0)
        if not lowest <= least <= most <= sys.float_info.max:
            count = entries.numel() - int(torch.isfinite(entries).sum())
            raise RunError(f"{where}: {count} of {entries.numel()} values{of} are NaN or infinite{hence}")


def digest(stored: Tensor | Change) -> str:
    """Digest of shape, format and bits of a tensor of any shape on the CPU; of an adapter's change, its kind too."""
    content = blake3(b"" if isinstance(stored, torch.Tensor) else stored.kind.encode())
    for tensor in tensors_of(stored):
        content.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        content.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return digests.named(content.hexdigest(DIGEST_BYTES))


def fingerprint(of_weights: Mapping[str, str]) -> str:
    """Digest of the weights of one checkpoint, from the digests of each by name."""
    content = blake3()
    for name in sorted(of_weights):
        content.update(f"{name}={of_weights[name]}\n".encode())
    return digests.named(content.hexdigest(DIGEST_BYTES))
