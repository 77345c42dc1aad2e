"""A sketch of an update: 64 numbers from which two records give each other the cosine of their updates, with its sign.

The sketch is linear in D and depends on nothing else: entry i of every tensor, in row-major order, meets the same signs
and places on every machine, by a fixed integer hash; only rounding differs. Three stages, each with signs of its own:

1. Blocks of 256 entries, 256 of them to a stripe, are added up over the stripes, each with a sign and in an order that
   the stripe draws. This is what costs: one pass over the entries.
2. The sums are put, with signs, into 2048 places (a count sketch, Charikar et al. 2002).
3. All places are added up with signs, 64 times (Johnson-Lindenstrauss; Achlioptas 2003). Each number depends on every
   entry, so that one that outweighs all others does no harm.

What is kept is the sketch by its own norm, in fp16: the sketches of equal, scaled and negated updates have a cosine of
1 or -1 up to 1e-6. Any other cosine c is wrong by about ``(1 - c^2) / 8``, its standard error, as the correlation of 64
pairs is: by .125 of unrelated updates, by .012 at .95. A third of the weights is further off, one in twenty twice as
far. The errors of weights whose updates are unrelated to each other are independent, and a mean has less.
"""

from __future__ import annotations

import math
from functools import cache, lru_cache
from typing import TYPE_CHECKING

import numpy as np

from geomcheck._lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

    from geomcheck.diagnostics.lowrank import LowRank

VERSION = 1
"""Raised whenever the same update gets another sketch."""

SIZE = 64
BYTES = 2 * SIZE
BLOCK, BLOCKS, PLACES = 256, 256, 2048
STRIPE = BLOCK * BLOCKS
"""Entries that are in float64 at a time: on a CPU they fit its cache."""

STRIPES = 64
"""How many are drawn for at a time."""

NORM_ERROR = 0.01
"""How far the norm of a stored sketch is from 1 at the most."""


def sketch(w0: Tensor, stored: Tensor | LowRank) -> bytes:
    """The sketch of D as it is kept: `SIZE` little-endian fp16 numbers of norm 1; zeros where D is zero, or not finite.

    Args:
        w0: of any shape.
        stored: W_t, of the same shape and on the same device; or D_t by its factors.
    """
    return sketch_and_norm(w0, stored)[0]


def sketch_and_norm(w0: Tensor, stored: Tensor | LowRank) -> tuple[bytes, float]:
    """The `sketch` of D, and ``|D|_F``, accumulated in float64: both in one pass over the entries. Shapes as there."""
    sums, norm = _sums(w0, stored)
    return _kept(sums.cpu().numpy()), norm


def _kept(numbers: np.ndarray) -> bytes:
    largest = float(np.abs(numbers).max())
    if not 0 < largest < math.inf:
        return bytes(BYTES)
    numbers /= largest
    return (numbers / np.linalg.norm(numbers)).astype("<f2").tobytes()


def unpacked(kept: bytes) -> np.ndarray:
    """The numbers of sketches that lie one after the other: float16, shape (sketches, SIZE).

    Raises:
        ValueError: what is kept are no sketches.
    """
    numbers = np.frombuffer(kept, "<f2").reshape(-1, SIZE)
    norms = np.linalg.norm(numbers.astype(np.float64), axis=1)
    if not ((norms == 0) | (np.abs(norms - 1) < NORM_ERROR)).all():
        raise ValueError("a sketch whose norm is neither 0 nor 1")
    return numbers


def cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Cosines of updates by their sketches, both of shape (..., SIZE): -1..1, and NaN where one of the two is zero.

    >>> some = unpacked(sketch(torch.zeros(2, 3), torch.arange(6.0).reshape(2, 3)))[0]
    >>> cosines(np.stack([some, some, some]), np.stack([some, -some, 0 * some])).round(6).tolist()
    [1.0, -1.0, nan]
    """
    a, b = one.astype(np.float64), other.astype(np.float64)
    norms = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    products = np.asarray((a * b).sum(axis=-1))
    return np.clip(np.divide(products, norms, out=np.full_like(products, np.nan), where=norms > 0), -1.0, 1.0)


def standard_error(cosine: float) -> float:
    """The standard error of a cosine, -1..1, that two sketches give.

    >>> standard_error(0.0), round(standard_error(0.95), 3)
    (0.125, 0.012)
    """
    return (1 - cosine**2) / math.sqrt(SIZE)


def _sums(w0: Tensor, stored: Tensor | LowRank) -> tuple[Tensor, float]:
    """The sketch at the scale of D: float64, shape (SIZE,); and the norm of D."""
    total, energy = w0.numel(), 0.0
    delta = w0.new_zeros(STRIPE if total > STRIPE else -(-total // BLOCK) * BLOCK, dtype=torch.float64)
    sums, turned = torch.zeros_like(delta), torch.empty_like(delta)
    rows, turned_rows, rows_of_sums = (whole.view(-1, BLOCK) for whole in (delta, turned, sums))
    after = torch.split(stored.reshape(-1), STRIPE) if isinstance(stored, torch.Tensor) else stored
    for number, before in enumerate(torch.split(w0.reshape(-1), STRIPE)):
        here = delta[: len(before)]
        if isinstance(after, tuple):
            here.copy_(after[number]).sub_(before)
        else:
            here.copy_(_entries(after, STRIPE * number, STRIPE * number + len(before)))
        energy += float(here @ here)
        delta[len(before) :] = 0
        if number == 0:
            sums += delta
            continue
        if number % STRIPES == 0 or number == 1:
            orders, changes = (torch.from_numpy(drawn).to(w0.device).unbind() for drawn in _draws(number // STRIPES))
        drawn = number % STRIPES
        torch.index_select(rows, 0, orders[drawn], out=turned_rows)
        rows_of_sums.addcmul_(turned_rows, changes[drawn])
    places, signs, mixture = (torch.from_numpy(table).to(w0.device) for table in _tables())
    kept = len(sums)
    placed = torch.bincount(places[:kept], sums * signs[:kept], minlength=PLACES).double()  # integers of no entries
    return mixture @ placed, math.sqrt(energy)


def _entries(factors: LowRank, start: int, stop: int) -> Tensor:
    """Entries of D in row-major order, without the whole of it."""
    into = factors.right.shape[1]
    first = start // into
    rows = factors.left[first : -(-stop // into)] @ factors.right
    return rows.reshape(-1)[start - first * into : stop - first * into]


@lru_cache(maxsize=16)
def _draws(some: int) -> tuple[np.ndarray, np.ndarray]:
    """In which order the blocks of `STRIPES` stripes are added up, int64 of shape (STRIPES, BLOCKS), and with which
    signs, float64 of shape (STRIPES, BLOCKS, 1). The first stripe of a tensor is taken as it is."""
    words = 1 + BLOCKS // 64
    hashed = _hashed(np.arange(some * STRIPES * words, (some + 1) * STRIPES * words), 1).reshape(STRIPES, words)
    return np.arange(BLOCKS) ^ (hashed[:, :1] % BLOCKS).astype(np.int64), _signs(hashed[:, 1:]).reshape(-1, BLOCKS, 1)


@cache
def _tables() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The place and the sign of each sum, int64 and float64 of shape (STRIPE,), and the signs of the last stage,
    float64 of shape (SIZE, PLACES)."""
    places = (_hashed(np.arange(STRIPE), 2) % PLACES).astype(np.int64)
    signs = _signs(_hashed(np.arange(STRIPE // 64), 3))
    return places, signs, _signs(_hashed(np.arange(SIZE * PLACES // 64), 4)).reshape(SIZE, PLACES)


def _signs(words: np.ndarray) -> np.ndarray:
    """64 signs of each word of 64 bits, one after the other: float64 of -1 and 1."""
    bits = np.unpackbits(np.ascontiguousarray(words).astype("<u8").reshape(-1).view(np.uint8), bitorder="little")
    return 1.0 - 2.0 * bits


def _hashed(numbers: np.ndarray, stage: int) -> np.ndarray:
    """Hashes of these integers, uint64: splitmix64 (Steele et al. 2014), of another seed at each stage and version."""
    with np.errstate(over="ignore"):
        state = numbers.astype(np.uint64) + np.uint64((256 * VERSION + stage) << 40)
        state = (state + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return state ^ (state >> np.uint64(31))
