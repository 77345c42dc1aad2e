"""Eigenvalues of ``diag(d) + H`` for a small H, window by window, at a fraction of the cost of all at once.

Eigenvalues that are near each other must be found together; distant ones act on them through second-order
perturbation theory (Loewdin, "A note on the quantum-mechanical perturbation theory", J. Chem. Phys. 19, 1951).
With energy e inside a window P and Q the rest, the trial vectors ``[I; (e - d_Q)^-1 H_QP]`` give the generalized
eigenproblem ``(A_PP + F H_QP + e N) y = lambda (I + N) y`` with ``F = H_PQ (e - d_Q)^-1`` and ``N = F F^T``, which
is the Rayleigh-Ritz method but for the couplings within Q. What these do is measured in a few windows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from geomcheck.diagnostics.linalg.kernels import product

CENTER = 32
"""Eigenvalues that a window answers for."""

PROBES = 8
"""Windows, besides those at the ends, in which the neglected couplings are evaluated."""

SMALLEST = 256
"""Size from which there are windows enough for a sample."""

MOST_WINDOWS = 3
"""How many times more windows than full ones may be needed before all eigenvalues at once are cheaper."""

MIXING = 0.1
"""Weight of a trial vector outside its window beyond which perturbation theory is not used."""

EPS32 = torch.finfo(torch.float32).eps

REMAINDER = 0.25
"""Part of a correction that may be wrong."""


@dataclass(frozen=True)
class Windowed:
    """Eigenvalues, with what the neglected couplings add in the next order where that is known.

    Both ends are corrected: spikes, and singular values near zero, are where the order counts. The windows in
    between are alike, and a sample of them says how far they are off.

    Attributes:
        eigenvalues: float64, descending.
        corrected: indices whose eigenvalues include the correction.
        sampled: indices whose eigenvalues do not include it, though it is known.
        correction: at all indices, float64; zero where it is not known.
    """

    eigenvalues: Tensor
    corrected: Tensor
    sampled: Tensor
    correction: Tensor

    def relative_error(self, shift: Tensor, before: Tensor) -> float:
        """Estimated relative error of |shift|_2, where shift = sqrt(eigenvalues) - before.

        It is ``(<error, shift> + |error|^2 / 2) / |shift|^2``; sums over all windows are estimated from the sample,
        with three standard errors.
        """
        energy = float(shift @ shift)
        if energy == 0:
            return 0.0
        error = self.correction / (2 * before + shift).clamp_min(1e-300)
        others = len(shift) - len(self.corrected)
        sums = _spread(REMAINDER * error[self.corrected], shift[self.corrected], len(self.corrected))
        return EPS32 + (sums + _spread(error[self.sampled], shift[self.sampled], others)) / energy


def _spread(error: Tensor, shift: Tensor, count: int) -> float:
    """Bound of <error, shift> + |error|^2 / 2 over `count` indices of which those given are a sample."""
    if len(error) == 0:
        return 0.0
    products, scale = error * shift, count / len(error)
    noise = 3 * float(torch.linalg.vector_norm(products)) * scale
    return scale * abs(float(products.sum())) + noise + scale * float(error @ error) / 2


def windowed_eigenvalues(diagonal: Tensor, change: Tensor) -> Windowed | None:
    """Eigenvalues of ``diag(diagonal) + change``.

    Args:
        diagonal: float64, shape (n,), descending.
        change: symmetric, float32, shape (n, n).

    Returns:
        None where the change is not small against the distances of the eigenvalues, these fall too steeply, or n is
        too small.
    """
    count = len(diagonal)
    if count < SMALLEST:
        return None
    energies = diagonal + change.diagonal()
    halo, end = _halo(count), _end(count)
    spans = _spans(energies.tolist(), halo, end)
    if len(spans) > MOST_WINDOWS * count / CENTER:
        return None
    ends = {index for index, span in enumerate(spans) if span.start < end or span.stop == count}
    inner = sorted(set(range(len(spans))) - ends)
    sample = {inner[(2 * i + 1) * len(inner) // (2 * PROBES)] for i in range(PROBES)}
    eigenvalues, correction = torch.empty_like(energies), torch.zeros_like(energies)
    for index, central in enumerate(spans):
        window = _Window(energies, change, central, 4 * halo if central.stop == count else halo)
        if not window.mixing <= MIXING:
            return None
        if index in ends | sample:
            eigenvalues[central], correction[central] = window.solved_and_probed()
        else:
            eigenvalues[central] = window.solved()
        if index in ends:
            eigenvalues[central] += correction[central]
    indices = torch.arange(count, device=diagonal.device)
    corrected, sampled = (torch.cat([indices[spans[index]] for index in sorted(group)]) for group in (ends, sample))
    return Windowed(eigenvalues.sort(descending=True).values, corrected, sampled, correction)


def _spans(energies: list[float], halo: int, end: int) -> list[slice]:
    """What each window answers for: no wider than twice its distance to what takes no part in it, except at the end."""
    start, last, spans = 0, len(energies) - end, []
    while start < last:
        stop = min(start + CENTER, last)
        while stop - start > 1 and energies[start] - energies[stop - 1] > 2 * (
            energies[stop - 1] - energies[min(stop + halo, len(energies)) - 1]
        ):
            stop -= (stop - start) // 2
        spans.append(slice(start, stop))
        start = stop
    return [*spans, slice(last, len(energies))]


def _halo(count: int) -> int:
    """Neighbours on each side that take part in a window exactly: couplings grow as sqrt(n) against distances."""
    return max(16, math.isqrt(count) // 2)


def _end(count: int) -> int:
    """Eigenvalues at either end that are corrected: spikes at one, at the other those that are nearly zero."""
    return max(2 * CENTER, count // 13)


class _Window:
    """The effective eigenproblem of the `central` eigenvalues, with `halo` neighbours on each side."""

    def __init__(self, energies: Tensor, change: Tensor, central: slice, halo: int) -> None:
        start, stop = central.start, central.stop
        low, high = max(0, start - halo), min(len(energies), stop + halo)
        self.energies, self.change = energies, change
        self.low, self.high = low, high
        self.central = slice(start - low, stop - low)
        self.energy = float(energies[(start + stop) // 2])
        distance = (self.energy - energies).float()
        distance[low:high] = torch.inf
        couplings = change[low:high]
        self.outside = couplings / distance
        self.metric = product(self.outside, self.outside.T).double()
        block = change[low:high, low:high].double()
        block.diagonal().copy_(energies[low:high] - self.energy)
        # relative to the window's energy: (A_PP - e) + F H_QP + e N - e N
        self.block = block + product(self.outside, couplings.T).double()
        self.mixing = float(self.metric.diagonal()[self.central].max())

    def solved(self) -> Tensor:
        """The central eigenvalues, descending."""
        return self._values(torch.linalg.eigvalsh(self._standard()[0]))

    def solved_and_probed(self) -> tuple[Tensor, Tensor]:
        """The central eigenvalues, descending, and what the couplings outside the window add to each."""
        standard, factor = self._standard()
        values, rotated = torch.linalg.eigh(standard)
        values = self._values(values)
        vectors = torch.linalg.solve_triangular(factor.T, rotated, upper=True).flip(1)[:, self.central].float()
        tails = product(self.outside.T, vectors)
        within = product(self.change, tails) - self.change.diagonal()[:, None] * tails
        gaps = (values[None, :] - self.energies[:, None]).float()
        residual = product(self.change[self.low : self.high].T, vectors) + within - gaps * tails
        gaps[self.low : self.high] = torch.inf  # solved there
        return values, (tails * within + residual**2 / gaps).sum(0).double()

    def _standard(self) -> tuple[Tensor, Tensor]:
        """L^-1 K L^-T with I + N = L L^T, and L."""
        metric = self.metric + torch.eye(len(self.metric), dtype=torch.float64, device=self.metric.device)
        factor = torch.linalg.cholesky(metric)
        half = torch.linalg.solve_triangular(factor, self.block, upper=False)
        return torch.linalg.solve_triangular(factor, half.T, upper=False), factor

    def _values(self, ascending: Tensor) -> Tensor:
        return ascending.flip(0)[self.central] + self.energy
