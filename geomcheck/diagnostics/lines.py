"""Where an update lies: its energy by rows and columns, and which of them never changed.

A row is what stands along the last dimension, so that of experts in one tensor, of shape (experts, out, in), every
expert has `out` rows, and all share `in` columns.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from geomcheck._lazy import late, torch
from geomcheck.diagnostics.declaration import Parameter, scalar, share
from geomcheck.diagnostics.reading import Words
from geomcheck.errors import Undefined

if TYPE_CHECKING:
    from torch import Tensor

    from geomcheck.diagnostics import storage
    from geomcheck.diagnostics.update import Update
else:
    storage = late("geomcheck.diagnostics.storage")

SIDE = Parameter(
    name="side",
    kind="choice",
    choices=("rows", "columns"),
    default="rows",
    about="Rows (one per output) or columns (one per input); a tensor-parallel rank holds a block of either.",
)
TOP = Parameter(
    name="share",
    kind="number",
    low=0.0,
    high=1.0,
    default=0.01,
    example="1%",
    about="Which share of the rows or columns counts as the top: to the nearest number of them, and one at the least.",
)

LOOK = 64
"""Entries of every row that are compared at a time: few rows are the same beyond the first."""


def row_concentration(update: Update, *, side: str = "rows", share: float = 0.01) -> float:
    """Share of ``|D_t|_F^2`` in the rows (or columns) that hold most of it, 0..1.

    Args:
        share: of the rows that count, 0..1: the nearest number of them, and one at the least.

    One of two rows:

    >>> update = Update(Base(torch.zeros(2, 2)), torch.tensor([[3.0, 0.0], [0.0, 4.0]]))
    >>> row_concentration(update)  # 16 of 25
    0.64

    Raises:
        Undefined: D_t is zero, or a vector.
        OverflowError: its squares are beyond the range of float64.
    """
    update.require_change()
    energies = _energies(update, side)
    total = float(energies.sum())
    if not total or not math.isfinite(total):
        raise OverflowError("a square is beyond the range of float64")
    top = torch.topk(energies, _count(share, len(energies))).values
    return min(1.0, float(top.sum()) / total)


def frozen_rows(update: Update, *, side: str = "rows") -> float:
    """Share of the rows (or columns) of D_t that are zero in every entry, 0..1.

    >>> update = Update(Base(torch.ones(2, 4)), torch.tensor([[1.0, 1.0, 1.0, 2.0], [1.0, 1.0, 1.0, 1.0]]))
    >>> [frozen_rows(update, side=side) for side in ("rows", "columns")]
    [0.5, 0.75]

    Raises:
        Undefined: D_t is zero, or a vector.
    """
    before, stored = _matrix(update.base.w0), update.stored
    update.require_change()
    lines, across = before.shape if side == "rows" else before.shape[::-1]
    frozen = torch.arange(lines, device=before.device)
    for start in range(0, across, LOOK):
        place = frozen, slice(start, start + LOOK)
        rows, columns = place if side == "rows" else place[::-1]
        if isinstance(stored, torch.Tensor):
            moved = _matrix(update.wt)[rows, columns] != before[rows, columns]
        else:
            moved = (stored.left[rows] @ stored.right[:, columns]) != 0
        frozen = frozen[~moved.any(1 if side == "rows" else 0)]
        if not len(frozen):
            break
    return len(frozen) / lines


def _energies(update: Update, side: str) -> Tensor:
    """The sum of the squares of each row, or column, of D_t: float64, shape (rows,) or (columns,)."""
    squares = (block.mul_(block).sum(1 if side == "rows" else 0) for block in _blocks(update))
    return torch.cat(list(squares)) if side == "rows" else sum(squares, start=torch.zeros(()))


def _matrix(tensor: Tensor) -> Tensor:
    """All rows: shape (any, columns)."""
    if tensor.dim() < 2:
        raise Undefined("a vector has no rows and columns")
    return tensor.flatten(end_dim=-2)


def _blocks(update: Update) -> Iterator[Tensor]:
    """D_t in float64, some rows after the other: shape (any, columns)."""
    before = _matrix(update.base.w0)
    rows = max(1, storage.entries_at_once(before) // max(1, before.shape[1]))
    if not isinstance(update.stored, torch.Tensor):
        for left in torch.split(update.stored.left, rows):
            yield left @ update.stored.right
        return
    for start, end in zip(torch.split(before, rows), torch.split(_matrix(update.wt), rows), strict=True):
        yield end.double() - start


def _count(share: float, lines: int) -> int:
    return max(1, round(share * lines))


def _bounds(params: Mapping[str, Any], shape: tuple[int, ...]) -> tuple[float, float]:
    """The largest m of n squares are at least m / n of their sum."""
    lines = math.prod(shape[:-1]) if params["side"] == "rows" else shape[-1]
    return _count(params["share"], lines) / lines * (1 - 1e-12), 1.0


ROW_CONCENTRATION = share(
    name="row_concentration",
    title="row concentration",
    definition="share of |D_t|_F^2 in the top 1% of the rows (or columns) of D_t, one at the least",
    bounds=_bounds,
    baseline="a little above the share itself: of normal entries, 1% of the rows hold about 1% (1 + 3.8 / sqrt(in))",
    parameters=(SIDE, TOP),
    source="geomcheck",
    undefined="D_t = 0, or it is a vector",
    of_entries=True,
    on_request=True,
    compute=scalar(row_concentration),
    words=Words(
        "How much of the update its strongest rows (or columns) hold: few neurons, tokens or inputs, or all alike.",
        "The update is concentrated in fewer rows or columns than it should be.",
        "The update is spread over the rows or columns more evenly than it should be.",
    ),
    distrust="In small matrices the top 1% is one row, which holds 1 / out at least. Embeddings are concentrated by "
    "nature: only rows of tokens that occur get a gradient.",
    inflated_by_rounding=False,
    example=("1%", "5%"),
    synonyms=("row_energy", "column_concentration", "column_energy", "block_energy", "energy_by_row", "row_share"),
)

FROZEN_ROWS = share(
    name="frozen_rows",
    title="frozen rows",
    definition="share of the rows (or columns) of D_t that are zero in every entry",
    source="geomcheck",
    undefined="D_t = 0, or it is a vector",
    of_entries=True,
    on_request=True,
    parameters=(SIDE,),
    compute=scalar(frozen_rows),
    words=Words(
        "The share of rows (or columns) of the weights that never changed: half of them is a rank that never updates.",
        "More rows or columns stayed frozen than should have: a tensor-parallel rank, a head, an expert.",
        "Rows or columns changed that should have stayed frozen.",
    ),
    distrust="One changed entry makes a row count as trained. Stored in bf16, small updates leave whole rows as they "
    "were, and embeddings have rows of tokens that never occur.",
    inflated_by_rounding=False,
    example=("0%", "1%"),
    synonyms=("frozen_columns", "frozen_row_share", "dead_rows", "dead_columns", "unchanged_rows", "untrained_rows"),
)
