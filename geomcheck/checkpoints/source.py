"""The seam between checkpoint formats and everything else: a source lists its weights from headers and reads
one on request. A new format is a new source; nothing else changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Stored:
    """What a header says of one tensor: its shape, and its storage format (``bf16``, ``fp32``, ``F8_E4M3``)."""

    shape: tuple[int, ...]
    dtype: str


class WeightSource(Protocol):
    """The weights of one checkpoint."""

    @property
    def path(self) -> Path:
        """The directory that holds them."""
        ...

    @property
    def layout(self) -> str:
        """What the format is called, for people."""
        ...

    @property
    def weights(self) -> Mapping[str, Stored]:
        """Every tensor by canonical name, from headers alone.

        Raises:
            RunError: a file is missing, truncated, or not what it should be.
        """
        ...

    def read(self, name: str) -> Tensor:
        """One tensor, memory-mapped, on the CPU, in its storage dtype.

        Raises:
            RunError: it cannot be read.
        """
        ...
