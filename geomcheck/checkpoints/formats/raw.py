"""Read bytes of a file without mapping it: if a mapped file is truncated, reading it kills the process (SIGBUS)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from geomcheck._lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


def read_bytes(path: Path, offset: int, nbytes: int) -> Tensor:
    """`nbytes` bytes from `offset` on: uint8, shape (nbytes,), in memory that is aligned for every dtype.

    Raises:
        OSError: the file cannot be read.
        ValueError: it ends before.
    """
    content = torch.empty(nbytes, dtype=torch.uint8)
    _fill(content.numpy().data, path, offset)
    return content


def plain_bytes(path: Path, offset: int, nbytes: int) -> bytearray:
    """The same as a bytearray, for a header. Raises as `read_bytes`."""
    content = bytearray(nbytes)
    _fill(memoryview(content), path, offset)
    return content


def _fill(left: memoryview, path: Path, offset: int) -> None:
    with path.open("rb", buffering=0) as file:
        file.seek(offset)
        while left:
            count = file.readinto(left)
            if not count:
                raise ValueError(f"ends {len(left)} bytes before its content does; it was cut while it was read")
            left = left[count:]
