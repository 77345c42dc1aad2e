"""The interface between checkpoint formats and everything else: a source lists its weights from headers and reads
one on request. A new format is a new source; nothing else changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from geomcheck.diagnostics.lowrank import LowRank


@dataclass(frozen=True)
class Stored:
    """What is known of one tensor from headers.

    Attributes:
        shape: as stored.
        dtype: its storage format (``bf16``, ``fp32``, ``F8_E4M3``).
        fused: why several projections lie unsplit in this one tensor; empty where it is one projection.
    """

    shape: tuple[int, ...]
    dtype: str
    fused: str = ""


class Change(Protocol):
    """What an adapter stores instead of a weight: how to make W_t of W0."""

    @property
    def kind(self) -> str:
        """What the `tensors` mean: changes of one kind with equal tensors are equal."""

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """Everything that it is made of; the shapes depend on the kind."""

    def taken(self, take: Callable[[Tensor], Tensor]) -> Change:
        """The change of the weight that `take` makes of the stored tensor. Raises RunError where there is no such
        thing."""

    def of(self, w0: Tensor) -> Tensor | LowRank:
        """W_t, of the shape (out, in) of `w0`; or W_t - W0 by its factors, where those are known. Raises RunError where
        it is not a change of this W0."""


class WeightSource(Protocol):
    """The weights of one checkpoint.

    The readers in `formats` list tensors under the names that the files use; `canonical` turns them into
    sources whose weights are matrices under canonical names.
    """

    @property
    def path(self) -> Path:
        """The directory that holds them."""

    @property
    def layout(self) -> str:
        """What the format is called, for people."""

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file that decides the content of a weight, its config among them, sorted: where none has changed,
        no weight has."""

    @property
    def config(self) -> Mapping[str, Any]:
        """What the checkpoint says of its architecture, under the keys of a Hugging Face ``config.json``; empty where
        it says nothing. Raises RunError where there is a config that cannot be read."""

    @property
    def weights(self) -> Mapping[str, Stored]:
        """Every tensor by name, from headers alone. Raises RunError where a file is missing, truncated, or not what it
        should be."""

    def read(self, name: str, at: tuple[int, ...] = ()) -> Tensor | Change:
        """One tensor on the CPU, in its storage dtype and in memory of its own: files may change under a mapping.

        Args:
            name: one of `weights`.
            at: indices into the leading dimensions: ``(3,)`` reads ``tensor[3]`` and no more, where the format allows.

        Returns:
            The tensor, of the shape in `weights` without the dimensions that `at` indexes; of an adapter, the change
            of W0.

        Raises:
            RunError: it cannot be read.
        """


class Wrapped:
    """A source that presents the weights of another `source` in its own way; what it does not define is the other's."""

    def __init__(self, source: WeightSource) -> None:
        self._source = source
        self.path: Path = source.path
        self.layout: str = source.layout

    @property
    def files(self) -> tuple[Path, ...]:
        """See `WeightSource`."""
        return self._source.files

    @property
    def config(self) -> Mapping[str, Any]:
        """See `WeightSource`. Raises RunError."""
        return self._source.config

    def read(self, name: str, at: tuple[int, ...] = ()) -> Tensor | Change:
        """See `WeightSource`. Raises RunError."""
        return self._source.read(name, at)
