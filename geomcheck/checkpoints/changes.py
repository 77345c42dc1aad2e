"""Changes of W0 as adapters store them; W_t can be made of them only with W0."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from geomcheck._lazy import late, torch
from geomcheck.checkpoints.source import Change
from geomcheck.errors import RunError

if TYPE_CHECKING:
    from torch import Tensor

    from geomcheck.diagnostics import lowrank
    from geomcheck.diagnostics.lowrank import LowRank
else:
    lowrank = late("geomcheck.diagnostics.lowrank")

Take = Callable[["Tensor"], "Tensor"]
"""Takes a weight from a stored tensor: some rows of it, or a transposition (see `canonical.parts.Part`)."""


@dataclass(frozen=True, eq=False)
class Added:
    """W_t = W0 + left right (LoRA).

    Attributes:
        left: float64, shape (out, r).
        right: float64, shape (r, in).
    """

    left: Tensor
    right: Tensor
    kind = "added"

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """See `Change`."""
        return self.left, self.right

    @property
    def shape(self) -> tuple[int, int]:
        """Of the weight."""
        return self.left.shape[0], self.right.shape[1]

    def taken(self, take: Take) -> Added:
        """See `Change`: rows of left, columns of right, exchanged where `take` transposes."""
        return self.at(*_places(take, self.shape))

    def at(self, rows: Tensor, columns: Tensor, transposed: bool) -> Added:
        """The change of the entries in `rows` and `columns`, indices of shape (out,) and (in,)."""
        left, right = self.left[rows], self.right[:, columns]
        return Added(right.T, left.T) if transposed else Added(left, right)

    def of(self, w0: Tensor) -> Tensor | LowRank:
        """See `Change`."""
        return lowrank.LowRank(self.left, self.right)


@dataclass(frozen=True, eq=False)
class Rescaled:
    """W_t = W0 + left right with every row or column scaled to a given length (DoRA, arXiv 2402.09353).

    Attributes:
        added: the low-rank change.
        lengths: float64, one per row (axis 0) or column (axis 1).
        axis: which of the two.
    """

    added: Added
    lengths: Tensor
    axis: int

    @property
    def kind(self) -> str:
        """See `Change`."""
        return f"rescaled along {self.axis}"

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """See `Change`."""
        return *self.added.tensors, self.lengths

    def taken(self, take: Take) -> Rescaled:
        """See `Change`. Raises RunError where `take` cuts through rows whose length is what is stored."""
        rows, columns, transposed = _places(take, self.added.shape)
        kept, whole = (rows, columns) if self.axis == 0 else (columns, rows)
        if not torch.equal(whole.sort().values, torch.arange(self.added.shape[1 - self.axis])):
            raise RunError("a DoRA adapter of a weight that is split across its inputs cannot be read; merge it first")
        return Rescaled(self.added.at(rows, columns, transposed), self.lengths[kept], self.axis ^ transposed)

    def of(self, w0: Tensor) -> Tensor | LowRank:
        """See `Change`."""
        moved = w0.double() + self.added.left @ self.added.right
        lengths = torch.linalg.vector_norm(moved, dim=1 - self.axis, keepdim=True)
        scale = self.lengths.unsqueeze(1 - self.axis) / lengths
        return (moved * scale).to(torch.promote_types(w0.dtype, torch.float32))


@dataclass(frozen=True, eq=False)
class RowsReplaced:
    """W_t = W0 with some rows replaced (trainable tokens of an embedding).

    Attributes:
        indices: of the rows.
        rows: shape (indices, in).
    """

    indices: tuple[int, ...]
    rows: Tensor
    kind = "rows replaced"

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """See `Change`."""
        return torch.tensor(self.indices), self.rows

    def taken(self, take: Take) -> RowsReplaced:
        """See `Change`. Raises RunError: embeddings are neither fused nor transposed."""
        raise RunError("trained tokens of a weight that is split or transposed cannot be read; merge the adapter first")

    def of(self, w0: Tensor) -> Tensor | LowRank:
        """See `Change`."""
        if max(self.indices) >= len(w0):
            raise RunError(f"trains token {max(self.indices)}, but W0 has {len(w0)} rows; is it another model?")
        after = w0.to(torch.promote_types(w0.dtype, torch.float32), copy=True)
        after[list(self.indices)] = self.rows.to(after.dtype)
        return after


def whole(stored: Tensor | Change) -> Tensor:
    """A tensor of any shape as it is. Raises RunError where it is only a change of another model."""
    if not isinstance(stored, torch.Tensor):
        raise RunError("an adapter, which is no model by itself; give the model that it was trained on")
    return stored


def equal(one: Tensor | Change, other: Tensor | Change) -> bool:
    """Whether two tensors of one shape are equal in the format of either, which may be the coarser."""
    if not isinstance(one, torch.Tensor) or not isinstance(other, torch.Tensor):
        return False
    return torch.equal(one.to(other.dtype), other) or torch.equal(one, other.to(one.dtype))


def _places(take: Take, shape: tuple[int, int]) -> tuple[Tensor, Tensor, bool]:
    """The rows and columns, as int64 indices, of which `take` makes its result, and whether it transposes them then: it
    is shown the row, then the column of every entry. Raises RunError where it does not keep rows and columns together,
    so that factors cannot follow."""
    rows = take(torch.arange(shape[0], dtype=torch.int32).unsqueeze(1).expand(shape))
    columns = take(torch.arange(shape[1], dtype=torch.int32).unsqueeze(0).expand(shape))
    for transposed, (of_rows, of_columns) in enumerate([(rows, columns), (rows.T, columns.T)]):
        if (of_rows == of_rows[:, :1]).all() and (of_columns == of_columns[:1]).all():
            return of_rows[:, 0].long(), of_columns[0].long(), bool(transposed)
    raise RunError("an adapter of a weight that is split across rows and columns cannot be read; merge it first")
