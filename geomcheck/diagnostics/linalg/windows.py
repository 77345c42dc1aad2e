"""Eigenvalues of ``diag(d) + H`` for a small H, window by window, at a fraction of the cost of all at once.

Eigenvalues that are near each other must be found together; distant ones act on them through second-order
perturbation theory (Loewdin, "A note on the quantum-mechanical perturbation theory", J. Chem. Phys. 19, 1951).
With energy e inside a window P and Q the rest, the trial vectors ``[I; (e - d_Q)^-1 H_QP]`` give the generalized
eigenproblem ``(A_PP + F H_QP + e N) y = lambda (I + N) y`` with ``F = H_PQ (e - d_Q)^-1`` and ``N = F F^T``, which
is the Rayleigh-Ritz method but for the couplings within Q. What these do is measured in a few windows.

Windows of one shape are done several at once: one alone leaves a GPU idle.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from geomcheck.diagnostics.linalg.certificate import ACCURACY
from geomcheck.diagnostics.linalg.kernels import cholesky, eigh, eigvalsh, products, solve_triangular

CENTER = 32
"""Eigenvalues that a window answers for."""

AT_ONCE = 16
"""Windows of one shape that are done at once: together they take the memory of a few copies of H at most."""

PROBES = 8
"""Windows, besides those at the ends, in which the neglected couplings are evaluated."""

SMALLEST = 256
"""Size from which there are windows enough for a sample."""

MOST_WINDOWS = 3
"""How many times more windows than full ones may be needed before all eigenvalues at once are cheaper."""

MIXING = 0.1
"""Weight of a trial vector outside its window beyond which perturbation theory is not used."""

HOPELESS = 2 * ACCURACY
"""Relative error, as the windows in which it is evaluated let expect it, beyond which the others are not solved."""

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
        None where the change is not small against the distances of the eigenvalues, as a sample of the windows tells;
        where these fall too steeply; or n is too small.
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
    places = [_Place.of(span, count, 4 * halo if span.stop == count else halo) for span in spans]
    corrected, sampled = (_indices_of([spans[index] for index in sorted(group)], diagonal) for group in (ends, sample))
    found = Windowed(energies.clone(), corrected, sampled, torch.zeros_like(energies))  # in first order, to begin with

    def solve(chosen: Collection[int], *, probed: bool) -> bool:
        """Put in the answers of the chosen windows; False where one is too wide for perturbation theory."""
        for indices in _alike(places, chosen):
            windows = _Windows(energies, change, [places[index] for index in indices])
            if not windows.mixing <= MIXING:
                return False
            answers = windows.solved_and_probed() if probed else windows.solved()
            for index, values, neglected in zip(indices, *answers, strict=True):
                found.eigenvalues[spans[index]], found.correction[spans[index]] = values, neglected
        return True

    if not solve(ends | sample, probed=True):
        return None
    found.eigenvalues[corrected] += found.correction[corrected]
    before = diagonal.sqrt()
    if found.relative_error(found.eigenvalues.clamp_min(0).sqrt() - before, before) > HOPELESS:
        return None
    if not solve(set(range(len(spans))) - ends - sample, probed=False):
        return None
    return replace(found, eigenvalues=found.eigenvalues.sort(descending=True).values)


def _indices_of(spans: Sequence[slice], vector: Tensor) -> Tensor:
    return torch.cat([torch.arange(span.start, span.stop, device=vector.device) for span in spans])


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


@dataclass(frozen=True)
class _Place:
    """Where a window lies: coordinates [low, high), of which it answers for `central`, counted from `low`."""

    low: int
    high: int
    central: slice

    @classmethod
    def of(cls, span: slice, count: int, halo: int) -> _Place:
        low = max(0, span.start - halo)
        return cls(low, min(count, span.stop + halo), slice(span.start - low, span.stop - low))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Equal of places whose windows can be done at once."""
        return self.high - self.low, self.central.start, self.central.stop

    @property
    def middle(self) -> int:
        """The coordinate whose energy stands for the window's."""
        return self.low + (self.central.start + self.central.stop) // 2


def _alike(places: Sequence[_Place], chosen: Collection[int]) -> Iterator[list[int]]:
    """Those of the `chosen` windows that can be done at once, as they are of one shape; the smallest first."""
    groups: dict[tuple[int, int, int], list[int]] = defaultdict(list)
    for index in sorted(chosen):
        groups[places[index].shape].append(index)
    for _, indices in sorted(groups.items()):
        yield from (indices[start : start + AT_ONCE] for start in range(0, len(indices), AT_ONCE))


class _Windows:
    """The effective eigenproblems of windows at `places` of one shape."""

    def __init__(self, energies: Tensor, change: Tensor, places: Sequence[_Place]) -> None:
        self.energies, self.change = energies, change
        self.central = places[0].central
        self.energy = torch.stack([energies[place.middle] for place in places])[:, None]
        inside = torch.zeros(len(places), len(energies), dtype=torch.bool)
        for row, place in zip(inside, places, strict=True):
            row[place.low : place.high] = True
        self.inside = inside.to(energies.device)
        distance = (self.energy - energies).float().masked_fill_(self.inside, torch.inf)
        self.couplings = torch.stack([change[place.low : place.high] for place in places])
        self.outside = self.couplings / distance[:, None]
        self.metric = products(self.outside, self.outside.mT).double()
        block = torch.stack([change[place.low : place.high, place.low : place.high] for place in places]).double()
        own = torch.stack([energies[place.low : place.high] for place in places])
        block.diagonal(dim1=-2, dim2=-1).copy_(own - self.energy)
        # relative to the window's energy: (A_PP - e) + F H_QP + e N - e N
        self.block = block + products(self.outside, self.couplings.mT).double()
        self.mixing = float(self.metric.diagonal(dim1=-2, dim2=-1)[:, self.central].max())

    def solved(self) -> tuple[Tensor, Tensor]:
        """The central eigenvalues, descending, and zeros in place of corrections; a row per window."""
        values = self._values(eigvalsh(self._standard()[0]))
        return values, torch.zeros_like(values)

    def solved_and_probed(self) -> tuple[Tensor, Tensor]:
        """The central eigenvalues, descending, and what the couplings outside the window add to each."""
        standard, factor = self._standard()
        ascending, rotated = eigh(standard)
        values = self._values(ascending)
        vectors = solve_triangular(factor.mT, rotated, upper=True).flip(-1)[..., self.central].float()
        tails = products(self.outside.mT, vectors)
        within = products(self.change, tails) - self.change.diagonal()[:, None] * tails
        gaps = (values[:, None] - self.energies[:, None]).float()
        residual = products(self.couplings.mT, vectors) + within - gaps * tails
        gaps.masked_fill_(self.inside[..., None], torch.inf)  # solved there
        return values, (tails * within + residual**2 / gaps).sum(1).double()

    def _standard(self) -> tuple[Tensor, Tensor]:
        """L^-1 K L^-T with I + N = L L^T, and L."""
        metric = self.metric + torch.eye(self.metric.shape[-1], dtype=torch.float64, device=self.metric.device)
        factor = cholesky(metric)
        half = solve_triangular(factor, self.block, upper=False)
        return solve_triangular(factor, half.mT, upper=False), factor

    def _values(self, ascending: Tensor) -> Tensor:
        return ascending.flip(-1)[:, self.central] + self.energy
