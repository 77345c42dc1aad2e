"""Brute force of every diagnostic in float64, from the definitions of the papers and nothing else.

Slow, plain, and independent of the package on purpose: no import of geomcheck here. Arguments are float64
arrays that hold the stored values exactly, shape (out, in).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import svd, svdvals

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]


class Spectrum(NamedTuple):
    """A full singular value decomposition: columns of `u`, `s` descending, columns of `v`."""

    u: Array
    s: Array
    v: Array


def spectrum(matrix: Array) -> Spectrum:
    """Thin SVD; gesvd, which is slower and steadier than the default driver. The last few are remembered."""
    return _spectrum(np.ascontiguousarray(matrix).tobytes(), matrix.shape)


@lru_cache(maxsize=16)
def _spectrum(content: bytes, shape: tuple[int, int]) -> Spectrum:
    u, s, vt = svd(np.frombuffer(content).reshape(shape), full_matrices=False, lapack_driver="gesvd")
    return Spectrum(u, s, vt.T)


def to_bf16(values: Array) -> Array:
    """Round to the nearest bfloat16, ties to even, by way of float32 as every framework does."""
    single = np.asarray(values, dtype=np.float32)
    low = (single.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32).astype(np.float64)
    spacing = bf16_spacing(low)
    excess = np.abs(single.astype(np.float64) - low)
    even = (single.view(np.uint32) >> 16) % 2 == 0
    up = (excess > spacing / 2) | ((excess == spacing / 2) & ~even)
    return low + np.where(up, np.copysign(spacing, single), 0.0)


def bf16_spacing(values: Array) -> Array:
    """Distance from the bfloat16 number at or below each magnitude to the next larger one."""
    exponent = np.full(np.shape(values), -126.0)
    magnitude = np.abs(values)
    normal = magnitude >= 2.0**-126
    exponent[normal] = np.floor(np.log2(magnitude[normal]))
    exponent[normal & (2.0**exponent > magnitude)] -= 1
    exponent[normal & (2.0 ** (exponent + 1) <= magnitude)] += 1
    return 2.0 ** (exponent - 7)


def changed(w0: Array, wt: Array, eta: float = 1e-3, *, cast: bool = True) -> Mask:
    """The literal test: an entry is unchanged when |w_t - w0| <= eta max(|w0|, |w_t|)."""
    a, b = (to_bf16(w0), to_bf16(wt)) if cast else (w0, wt)
    return ~(np.abs(b - a) <= eta * np.maximum(np.abs(a), np.abs(b)))


def sparsity(w0: Array, wt: Array, eta: float = 1e-3, *, cast: bool = True) -> float:
    return 1.0 - float(changed(w0, wt, eta, cast=cast).mean())


def jaccard(w0: Array, wt: Array, other: Array) -> float:
    m, n = changed(w0, wt), changed(w0, other)
    return float((m & n).sum() / (m | n).sum())


def angles(w0: Array, wt: Array, k: int) -> tuple[Array, Array]:
    """Left and right principal angles of the top-k singular subspaces, degrees, ascending."""
    a, b = spectrum(w0), spectrum(wt)
    return subspace_angles(a.u[:, :k], b.u[:, :k]), subspace_angles(a.v[:, :k], b.v[:, :k])


def subspace_angles(a: Array, b: Array) -> Array:
    """Principal angles between two orthonormal bases, degrees, ascending, each from its sine and its cosine.

    Not `scipy.linalg.subspace_angles`: where some angles are above 45 degrees and some below, scipy 1.17
    takes small angles from their cosines and leaves 1e-6 degrees of noise in them.
    """
    sines = svdvals(b - a @ (a.T @ b))[::-1]
    return np.degrees(np.arctan2(sines, svdvals(a.T @ b)))


def shift(w0: Array, wt: Array) -> float:
    return float(np.sqrt(np.sum((spectrum(wt).s - spectrum(w0).s) ** 2)))


def nss(w0: Array, wt: Array) -> float:
    return shift(w0, wt) / float(np.sqrt(np.sum(spectrum(w0).s ** 2)))


def spectral_share(w0: Array, wt: Array) -> float:
    return shift(w0, wt) / norm(wt - w0)


def membership(magnitudes: Array, alpha: float) -> Array:
    """How much of each entry lies among the alpha smallest when every way to break a tie is equally likely.

    Sorted entries fill places 0..N-1, and the places below alpha N are in the mask, the last one in part. The
    entries of one magnitude share the places they occupy.
    """
    _, group, counts = np.unique(magnitudes.ravel(), return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    covered = np.clip(alpha * magnitudes.size - (ends - counts), 0, counts)
    return (covered / counts)[group].reshape(magnitudes.shape)


def _share_of(mask: Mask, members: Array) -> float:
    return float(members[mask].mean()) if mask.any() else float("nan")


def low_overlap(w0: Array, wt: Array, alpha: float) -> float:
    return _share_of(changed(w0, wt), membership(np.abs(w0), alpha))


def low_rank(w0: Array, rank: int) -> Array:
    """The truncated SVD of W0, which is W0 where its rank is no larger; zero where it is nothing but rounding."""
    u, s, v = spectrum(w0)
    if not np.any(s[rank:] > max(w0.shape) * np.finfo(np.float64).eps * s[0]):
        return w0
    truncated = (u[:, :rank] * s[:rank]) @ v[:, :rank].T
    return np.where(np.abs(truncated) > 64 * np.finfo(np.float64).eps * np.abs(truncated).max(), truncated, 0.0)


def principal_overlap(w0: Array, wt: Array, rank: int, alpha: float) -> float:
    magnitudes = np.abs(low_rank(w0, rank))
    return _share_of(changed(w0, wt), membership(-magnitudes, alpha))


def norm(matrix: Array) -> float:
    """Frobenius norm, scaled against overflow."""
    largest = float(np.abs(matrix).max())
    return largest * float(np.sqrt(np.sum((matrix / largest) ** 2))) if largest else 0.0


def stable_rank(d: Array) -> float:
    s = spectrum(d).s
    return float(np.sum((s / s[0]) ** 2))


def hill(d: Array, k: int) -> float:
    s = spectrum(d).s
    return float((k - 1) / sum(np.log(s[i] / s[k - 1]) for i in range(k - 1)))


def top_energy(d: Array, k: int) -> float:
    s = spectrum(d).s / spectrum(d).s[0]
    return float(np.sum(s[:k] ** 2) / np.sum(s**2))


def alignment(d: Array, other: Array, k: int, *, left: bool = False) -> float:
    a, b = spectrum(d), spectrum(other)
    overlap = (a.u[:, :k].T @ b.u[:, :k]) if left else (a.v[:, :k].T @ b.v[:, :k])
    return float(np.sum(overlap**2) / k)


def channel_energy(d: Array, early: Array, k: int) -> float:
    v = spectrum(early).v[:, :k]
    return (norm(d @ v @ v.T) / norm(d)) ** 2


def principal_energy(w0: Array, d: Array, k: int) -> float:
    u, _, v = spectrum(w0)
    return (norm(u[:, :k].T @ d @ v[:, :k]) / norm(d)) ** 2


def rounding_share(d: Array, ulps: Array) -> float:
    """Share of |D|_F^2 that rounding explains, `ulps` being the spacing of W_t's format at each entry."""
    return min(1.0, float(np.sum((ulps / norm(d)) ** 2)) / 12)


def summaries(angles: Array) -> dict[str, float]:
    """Maximum, mean, median and 95th percentile (linear between ranks)."""
    return {
        "max": float(np.max(angles)),
        "mean": float(np.mean(angles)),
        "median": float(np.quantile(angles, 0.5)),
        "p95": float(np.quantile(angles, 0.95)),
    }


def rotation(w0: Array, wt: Array, k: int) -> dict[str, float]:
    left, right = angles(w0, wt, k)
    sides = {"left": left, "right": right, "both": np.concatenate([left, right])}
    return {f"{side}.{name}": value for side, found in sides.items() for name, value in summaries(found).items()}


def update_spectrum(d: Array) -> dict[str, float]:
    s = spectrum(d).s / norm(d)
    return {f"s{i + 1:02d}": float(s[i]) if i < len(s) else 0.0 for i in range(16)}


def separation(matrix: Array, k: int) -> float:
    """(sigma_k - sigma_{k+1}) / sigma_1, below zero where sigma_k is nothing but rounding: how unique the top-k is."""
    s = np.append(spectrum(matrix).s, 0.0)
    if k >= len(s) or s[0] == 0 or s[k - 1] <= max(matrix.shape) * np.finfo(np.float64).eps * s[0]:
        return -1.0
    return float((s[k - 1] - s[k]) / s[0])


def cosine(a: Array, b: Array) -> float:
    return float(np.sum((a / norm(a)) * (b / norm(b))))


def increments(path: list[Array]) -> list[Array]:
    """What lies between W0 and the first of some updates, and between each and the next."""
    return [after - before for before, after in zip([np.zeros_like(path[0]), *path], path, strict=False)]


def efficiency(path: list[Array]) -> float:
    return norm(path[-1]) / sum(norm(step) for step in increments(path))


def rank_one_share(path: list[Array]) -> float:
    """By the singular values of all updates side by side."""
    s = spectrum(np.stack([d.ravel() / norm(path[-1]) for d in path])).s
    return float(s[0] ** 2 / np.sum(s**2))


def r_squared(path: list[Array], steps: tuple[int, ...]) -> float:
    """Of a least-squares line through zero for each entry, by what it leaves."""
    updates, tau = np.stack([d.ravel() / norm(path[-1]) for d in path]), np.array(steps, dtype=float)
    slopes = np.linalg.lstsq(tau[:, None], updates, rcond=None)[0]
    return 1 - float(np.sum((updates - tau[:, None] * slopes) ** 2) / np.sum(updates**2))


def effective_rank(d: Array) -> float:
    s = spectrum(d).s
    p = s[s > 0] / s.sum()
    return float(np.exp(-np.sum(p * np.log(p))))


UNRESOLVED = 1e-9
"""Part of the largest singular value by which two must differ for their vectors to be told apart."""


def intruders(w0: Array, wt: Array, k: int, epsilon: float = 0.5) -> float:
    """Raises ValueError where a vector is not unique, or a cosine is at epsilon."""
    before, after = spectrum(w0), spectrum(wt)
    own = before.u[:, before.s > max(w0.shape) * np.finfo(np.float64).eps * before.s[0]]
    gaps = -np.diff(np.append(after.s, 0.0))[:k] / after.s[0]
    own_gaps = -np.diff(before.s[: own.shape[1]]) / before.s[0]
    cosines = np.abs(own.T @ after.u[:, :k]).max(axis=0) if own.shape[1] else np.full(k, np.nan)
    if len(cosines) < k or min([*gaps, *own_gaps]) < UNRESOLVED or (np.abs(cosines - epsilon) < 1e-6).any():
        raise ValueError("directions are not unique")
    return float(np.sum(cosines < epsilon)) if not np.isnan(cosines).any() else float("nan")


def as_rows(matrix: Array, side: str) -> Array:
    """Along the last dimension, or across it."""
    rows = matrix.reshape(-1, matrix.shape[-1])
    return rows if side == "rows" else rows.T


def concentration(d: Array, side: str = "rows", share: float = 0.01) -> float:
    largest = np.abs(d).max()
    energies = sorted((float(np.sum((row / largest) ** 2)) for row in as_rows(d, side)), reverse=True)
    return sum(energies[: max(1, round(share * len(energies)))]) / sum(energies)


def frozen_rows(d: Array, side: str = "rows") -> float:
    return float(np.mean([not row.any() for row in as_rows(d, side)]))


def sign_flips(w0: Array, wt: Array) -> float:
    return float(np.mean(np.sign(w0) * np.sign(wt) == -1))


def unmovable(w0: Array, lr: float) -> float:
    """By the definition: half the way to the neighbour on either side is longer than `lr`."""
    w = np.abs(to_bf16(w0))
    above = bf16_spacing(w)
    bits = w.astype(np.float32).view(np.uint32)
    lower = np.where(bits > 0, bits - np.uint32(1 << 16), bits).view(np.float32).astype(np.float64)
    below = np.where(w > 0, w - lower, above)
    return float(np.mean(np.minimum(above, below) / 2 > lr))


def representable(wt: Array, narrow: str) -> float:
    """Of W_t as stored."""
    with np.errstate(over="ignore"):
        there = to_bf16(wt) if narrow == "bf16" else wt.astype(np.float16).astype(np.float64)
    return float(np.mean(there == wt))


class Weight(NamedTuple):
    """One weight as every metric sees it: W0, W_t, another checkpoint (or the reference), and the spacing of the
    format of W_t at each entry."""

    w0: Array
    wt: Array
    other: Array
    ulps: Array
    exact: tuple[Array, Array] | None = None
    """Both updates, where they are known better than by a difference."""

    @property
    def d(self) -> Array:
        return self.exact[0] if self.exact else self.wt - self.w0

    @property
    def e(self) -> Array:
        return self.exact[1] if self.exact else self.other - self.w0

    @property
    def path(self) -> list[Array]:
        """W0 to the other checkpoint to this one."""
        return [self.e, self.d]


Figure = Callable[[Weight, int], float | dict[str, float]]

FIGURES: dict[str, Figure] = {
    "update_sparsity": lambda w, _: sparsity(w.w0, w.wt),
    "update_support": lambda w, _: 1.0 - sparsity(w.w0, w.wt),
    "mask_jaccard": lambda w, _: jaccard(w.w0, w.wt, w.other),
    "frozen_share": lambda w, _: float(np.array_equal(w.w0, w.wt)),
    "principal_angle": lambda w, k: rotation(w.w0, w.wt, k),
    "principal_energy": lambda w, k: principal_energy(w.w0, w.d, k),
    "spectral_shift": lambda w, _: nss(w.w0, w.wt),
    "spectral_share": lambda w, _: spectral_share(w.w0, w.wt),
    "principal_overlap": lambda w, k: principal_overlap(w.w0, w.wt, k, 0.3),
    "low_magnitude_overlap": lambda w, _: low_overlap(w.w0, w.wt, 0.3),
    "stable_rank": lambda w, _: stable_rank(w.d),
    "update_norm": lambda w, _: norm(w.d),
    "relative_update_norm": lambda w, _: norm(w.d) / norm(w.w0),
    "hill_exponent": lambda w, k: hill(w.d, k),
    "top_energy": lambda w, k: top_energy(w.d, k),
    "update_spectrum": lambda w, _: update_spectrum(w.d),
    "rounding_share": lambda w, _: rounding_share(w.d, w.ulps),
    "subspace_alignment": lambda w, k: alignment(w.d, w.e, k),
    "subspace_energy": lambda w, k: channel_energy(w.d, w.e, k),
    "reference_alignment": lambda w, k: alignment(w.d, w.e, k),
    "update_cosine": lambda w, _: cosine(w.d, w.e),
    "increment_norm": lambda w, _: norm(w.d - w.e) / norm(w.w0),
    "increment_cosine": lambda w, _: cosine(*increments(w.path)),
    "path_efficiency": lambda w, _: efficiency(w.path),
    "trajectory_rank": lambda w, _: rank_one_share(w.path),
    "linearity": lambda w, _: r_squared(w.path, (1, 2)),
    "decay_share": lambda w, _: cosine(w.d, w.w0),
    "effective_rank": lambda w, _: effective_rank(w.d),
    "intruder_dimensions": lambda w, k: intruders(w.w0, w.wt, k),
    "row_concentration": lambda w, _: concentration(w.d),
    "frozen_rows": lambda w, _: frozen_rows(w.d),
    "sign_flips": lambda w, _: sign_flips(w.w0, w.wt),
    "frozen_by_precision": lambda w, _: unmovable(w.w0, 1e-6),
    "representable_share": lambda w, _: math.nan if w.exact else representable(w.wt, "bf16"),
}
"""Every metric with its default parameters, but for k (or the rank of a mask)."""

SUBSPACES: dict[str, Callable[[Weight], tuple[Array, ...]]] = {
    "principal_angle": lambda w: (w.w0, w.wt),
    "principal_energy": lambda w: (w.w0,),
    "principal_overlap": lambda w: (w.w0,),
    "subspace_alignment": lambda w: (w.d, w.e),
    "subspace_energy": lambda w: (w.e,),
    "reference_alignment": lambda w: (w.d, w.e),
}
"""The matrices whose top-k subspace a metric needs; where one is not unique there is no figure."""


def _shift_resolution(w: Weight) -> float:
    """Twice what rounding leaves of the difference of two spectra."""
    s, t = spectrum(w.w0).s, spectrum(w.wt).s
    return 8 * float(np.finfo(np.float64).eps) * float(max(s[0], t[0])) * len(s) ** 0.5


RESOLUTIONS: dict[str, Callable[[Weight, int], float]] = {
    "spectral_shift": lambda w, _: _shift_resolution(w) / norm(w.w0),
    "spectral_share": lambda w, _: _shift_resolution(w) / norm(w.d),
    "principal_angle": lambda w, k: np.degrees(2e-15 / min(separation(w.w0, k), separation(w.wt, k))),
}
"""Absolute errors of brute force itself, where a figure is a small difference of large numbers."""
