"""A look at one weight along the run: what its entries tell. Each checkpoint is read once, a few are in memory.

Everything is summed in float64 over blocks of rows. A tensor of another number of dimensions than two is looked at as
the matrix of its first dimension against all others, a vector as one row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from geomcheck.checkpoints import Change
from geomcheck.diagnostics.lowrank import LowRank

BLOCK = 1 << 16
"""Entries that are in float64 at a time: what a core's own cache holds, of which each is used several times."""

COARSER = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""Formats whose numbers a tensor of a finer one may hold."""

BITS = {torch.bfloat16: 8, torch.float16: 11, torch.float32: 24, torch.float64: 53}
"""Of the significand of each format, the leading one included."""

LEVELS = (127, 7)
"""Steps from zero to the largest entry of a row that was quantized to 8 or 4 bits."""

ON_A_LEVEL = 1e-3
"""How near a multiple of the step every entry must be; by chance none of three entries in a row is as near."""

FEWEST = 16
"""Entries of a row, at least, before it can be seen to be quantized; and distinct values before a format can."""

FIRST = 4
"""Rows that are looked at first: hardly any matrix passes there that was not quantized."""

FEWEST_LEVELS = 5
"""Of which entries must be: those of one value are on a level by themselves."""

LOW = 0.01
"""Quantile of magnitudes at which the smallest visible step is taken."""


Lines = tuple[Tensor, Tensor]
"""Which rows and which columns are meant, bool."""


@dataclass(frozen=True)
class Seen:
    """One weight at one checkpoint.

    Attributes:
        finite: whether every entry is a number.
        low, high: its extremes; NaN where it is not finite.
        norm: of W_t.
        moved: norm of D_t = W_t - W0.
        step: norm of what lies between it and the checkpoint before, W0 for the first.
        turn: cosine of that with the one before; NaN where there is none.
        along: cosine of D_t with W0; NaN where one of them is zero.
        equal: whether it is W0, as its own format holds that.
        rounded: the coarser format whose numbers all its entries are; empty where there is none.
        levels: steps from zero to the largest entry of each row, if all are on such; 0 where they are not.
        stayed: which rows, then which columns, are those of the checkpoint before, to the bit; None for none.
        emptied: likewise, are zero.
    """

    finite: bool
    low: float
    high: float
    norm: float
    moved: float
    step: float
    turn: float
    along: float
    equal: bool = False
    rounded: str = ""
    levels: int = 0
    stayed: Lines | None = field(default=None, repr=False)
    emptied: Lines | None = field(default=None, repr=False)

    @property
    def constant(self) -> float | None:
        """The one value of all entries; None where there are several."""
        return self.low if self.low == self.high else None


@dataclass(frozen=True)
class Look:
    """One weight along the run.

    Attributes:
        shape: of the matrix as which it is looked at.
        norm, low, high, rounded, levels: of W0, as `Seen` has them.
        bits: of the significand in the run's format.
        smallest: magnitude of its smallest entries that are not zero.
        seen: at each checkpoint.
        still_rows, still_columns: which of them are W0's at the last checkpoint, to the bit.
        per_row, per_column: entries that moved, on average over the rows and columns in which any did.
    """

    shape: tuple[int, int]
    norm: float
    low: float
    high: float
    rounded: str
    levels: int
    bits: int
    smallest: float
    seen: tuple[Seen, ...]
    still_rows: Tensor = field(repr=False)
    still_columns: Tensor = field(repr=False)
    per_row: float = 0.0
    per_column: float = 0.0

    @property
    def numel(self) -> int:
        """Number of entries."""
        return self.shape[0] * self.shape[1]

    @property
    def constant(self) -> float | None:
        """The one value of all entries of W0; None where there are several."""
        return self.low if self.low == self.high else None

    def size(self, index: int) -> float:
        """Relative norm of the update: infinite over a W0 of zeros."""
        moved = self.seen[index].moved
        return moved / self.norm if self.norm else (math.inf if moved else 0.0)

    def likeness(self, index: int) -> float:
        """Cosine of W_t with W0; NaN where one of them is zero or not finite."""
        seen = self.seen[index]
        if not seen.norm or not self.norm or not seen.finite:
            return math.nan
        along = seen.along * seen.moved if seen.moved else 0.0
        return (self.norm + along) / seen.norm

    def unit(self, rounded: str = "") -> float:
        """Half the distance between neighbouring numbers around its smallest entries, in the run's format or in the
        coarser one to which it was rounded: a smaller change does not show."""
        bits = min(self.bits, BITS[COARSER[rounded]]) if rounded else self.bits
        return math.ldexp(1.0, math.frexp(self.smallest)[1] - bits - 1) if self.smallest else 0.0


Read = Callable[[], "Tensor | Change"]


def look(base: Read, checkpoints: Sequence[Read]) -> Look:
    """Look at one weight. Raises RunError where a tensor cannot be read, or is no tensor of one shape."""
    w0 = as_matrix(base())
    seen: list[Seen] = []
    before, earlier = w0, None
    last = w0
    for read in checkpoints:
        last = dense(read(), w0)
        seen.append(_seen(w0, earlier, before, last))
        before, earlier = last, before
    rows, columns = _moved_entries(w0, last)
    low, high = _extremes(w0)
    return Look(
        shape=(w0.shape[0], w0.shape[1]),
        norm=_norm(w0),
        low=low,
        high=high,
        rounded=_rounded(w0),
        levels=_levels(w0),
        bits=BITS.get(last.dtype, BITS[torch.float64]),
        smallest=_smallest(w0),
        seen=tuple(seen),
        still_rows=rows == 0,
        still_columns=columns == 0,
        per_row=_mean_of_moved(rows),
        per_column=_mean_of_moved(columns),
    )


def as_matrix(stored: Tensor | Change) -> Tensor:
    """A tensor as a matrix: the first dimension against all others, a vector as one row."""
    if not isinstance(stored, Tensor):
        raise TypeError("a change of W0, which is no tensor by itself")
    return stored.reshape(len(stored), -1) if stored.ndim > 1 else stored.reshape(1, -1)


def dense(stored: Tensor | Change, w0: Tensor) -> Tensor:
    """W_t as a matrix, in float64 where it is stored as a change of W0. Raises RunError."""
    if isinstance(stored, Tensor):
        return as_matrix(stored)
    made = stored.of(w0)
    return w0.double() + made.matrix if isinstance(made, LowRank) else as_matrix(made)


def _seen(w0: Tensor, earlier: Tensor | None, before: Tensor, wt: Tensor) -> Seen:
    low, high = _extremes(wt)
    if not math.isfinite(low) or not math.isfinite(high):
        unknown = math.nan
        return Seen(False, low, high, unknown, unknown, unknown, unknown, unknown)
    squares, moved, step, last, turn, along, start = (0.0 for _ in range(7))
    stayed, emptied = _Zeros(wt.shape[1]), _Zeros(wt.shape[1])
    for rows in blocks(wt):
        after, start_of, previous = wt[rows].double(), w0[rows].double(), before[rows].double()
        change, walked = after - start_of, after - previous
        squares += emptied.add(after)
        moved += _inner(change, change)
        step += stayed.add(walked)
        along += _inner(change, start_of)
        start += _inner(start_of, start_of)
        if earlier is not None:
            walked_before = previous - earlier[rows].double()
            turn += _inner(walked, walked_before)
            last += _inner(walked_before, walked_before)
    return Seen(
        finite=True,
        low=low,
        high=high,
        norm=math.sqrt(squares),
        moved=math.sqrt(moved),
        step=math.sqrt(step),
        turn=_cosine(turn, step, last),
        along=_cosine(along, moved, start),
        equal=moved == 0 or torch.equal(w0.to(wt.dtype), wt),
        rounded=_rounded(wt),
        levels=_levels(wt),
        stayed=stayed.lines,
        emptied=emptied.lines,
    )


class _Zeros:
    """The rows and columns of a matrix that are zero, from its blocks of rows; hardly any column stays in question
    after the first of them."""

    def __init__(self, columns: int) -> None:
        self._rows: list[Tensor] = []
        self._columns = torch.arange(columns)
        self._count = columns

    def add(self, block: Tensor) -> float:
        """Add a block, float64; returns its squared norm."""
        zero = (block[:, :FEWEST] == 0).all(1)
        self._rows.append((block == 0).all(1) if zero.any() else zero)  # few pass by chance
        if len(self._columns):
            held = block if len(self._columns) == self._count else block[:, self._columns]
            self._columns = self._columns[(held == 0).all(0)]
        return _inner(block, block)

    @property
    def lines(self) -> Lines | None:
        """Of all blocks; None where no row and no column is zero."""
        rows = torch.cat(self._rows) if self._rows else torch.zeros(0, dtype=torch.bool)
        if not rows.any() and not len(self._columns):
            return None
        columns = torch.zeros(self._count, dtype=torch.bool)
        columns[self._columns] = True
        return rows, columns


def _inner(one: Tensor, other: Tensor) -> float:
    return float(torch.dot(one.flatten(), other.flatten()))


def blocks(matrix: Tensor, *, first: int = 0) -> Iterator[slice]:
    """Slices of rows that have `BLOCK` entries or a row each; the first of them `first` rows, where that is given: they
    often decide."""
    size = max(1, BLOCK // max(1, matrix.shape[1]))
    start = min(first, len(matrix))
    if start:
        yield slice(0, start)
    for begin in range(start, len(matrix), size):
        yield slice(begin, begin + size)


def _cosine(inner: float, one: float, other: float) -> float:
    """Of two vectors by their inner product and squared norms; NaN where one of them is zero."""
    return max(-1.0, min(1.0, inner / math.sqrt(one) / math.sqrt(other))) if one > 0 and other > 0 else math.nan


def _extremes(matrix: Tensor) -> tuple[float, float]:
    if not matrix.numel():
        return 0.0, 0.0
    low, high = torch.aminmax(matrix)
    return float(low), float(high)


def _norm(matrix: Tensor) -> float:
    return math.sqrt(math.fsum(_inner(entries := matrix[rows].double(), entries) for rows in blocks(matrix)))


def _moved_entries(w0: Tensor, wt: Tensor) -> tuple[Tensor, Tensor]:
    """How many entries of each row and of each column differ."""
    of_rows, columns = [], torch.zeros(w0.shape[1], dtype=torch.int64)
    for rows in blocks(w0):
        differs = wt[rows].double() != w0[rows].double()
        of_rows.append(differs.sum(1))
        columns += differs.sum(0)
    return torch.cat(of_rows) if of_rows else columns[:0], columns


def _mean_of_moved(counts: Tensor) -> float:
    moved = counts[counts > 0]
    return float(moved.double().mean()) if len(moved) else 0.0


def _rounded(matrix: Tensor) -> str:
    """The coarser format of which every entry is a number, if there are enough different ones to tell."""
    for name, dtype in COARSER.items() if matrix.dtype in (torch.float32, torch.float64) else ():
        if all(torch.equal(matrix[rows].to(dtype).to(matrix.dtype), matrix[rows]) for rows in blocks(matrix, first=1)):
            return name if len(torch.unique(matrix.reshape(-1)[: FEWEST * FEWEST])) >= FEWEST else ""
    return ""


def _levels(matrix: Tensor) -> int:
    """The levels on which all entries lie, if their rows were quantized."""
    if matrix.shape[1] < FEWEST or len(matrix) < 2 or matrix.dtype not in (torch.float32, torch.float64):
        return 0
    for levels in LEVELS:
        if all(_on_levels(matrix[rows].double(), levels) for rows in blocks(matrix, first=FIRST)):
            return levels
    return 0


def _on_levels(rows: Tensor, levels: int) -> bool:
    largest = rows.abs().amax(1, keepdim=True)
    there = (largest > 0).flatten()
    places = rows[there] * (levels / largest[there])
    nearest = places.round()
    return bool(((places - nearest).abs() < ON_A_LEVEL).all()) and len(torch.unique(nearest)) >= FEWEST_LEVELS


def _smallest(matrix: Tensor) -> float:
    """The magnitude that one in a hundred of the entries does not reach, zeros left out."""
    flat = matrix.reshape(-1)
    some = flat[:: max(1, flat.numel() // 4096)].double().abs()
    some = some[some > 0]
    return float(torch.quantile(some, LOW)) if len(some) and bool(torch.isfinite(some).all()) else 0.0
