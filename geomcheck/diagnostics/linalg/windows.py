"""Eigenvalues of ``diag(d) + H`` for a small H, window by window, at a fraction of the cost of all at once.

Eigenvalues that are near each other must be found together; distant ones act on them through perturbation theory
(Loewdin, "A note on the quantum-mechanical perturbation theory", J. Chem. Phys. 19, 1951). With P the coordinates of a
window, Q the rest, and O the off-diagonal part of H, an eigenvalue is one of ``A_PP + sum_m H_PQ R (O_QQ R)^m H_QP``,
where ``R = (lambda - d_Q)^-1``. The term m = 0 gives values and vectors; m = 1 and 2 are added between these vectors,
in every window. The terms fall off as a geometric series, whose ratio is seen, and the next one is the error.

That is an estimate. It is held against what is known exactly: the trace and the Frobenius norm of the matrix are the
sums of its eigenvalues and of their squares. An eigenvalue that is missed, or taken twice, shows there.

Windows of one shape are done several at once: one alone leaves a GPU idle.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from geomcheck.diagnostics.linalg.certificate import ACCURACY
from geomcheck.diagnostics.linalg.kernels import cholesky, eigh, eigvalsh, product, products, solve_triangular
from geomcheck.diagnostics.storage import blocks_of

CENTER = 32
"""Eigenvalues that a window answers for."""

AT_ONCE = 16
"""Windows of one shape that are done at once: together they take the memory of a few copies of H at most."""

SMALLEST = 256
"""Size below which a window and its halos would be most of the matrix."""

MOST_WINDOWS = 3
"""How many times more windows than full ones may be needed before all eigenvalues at once are cheaper."""

SOME = 4
"""Every which window is solved before the others, to see whether those are worth it."""

MIXING = 0.1
"""Weight of a vector outside its window beyond which perturbation theory is not used."""

SAFETY = 4
"""How many times larger than the first neglected term of the series the error may be."""

RESOLUTION = 1e-6
"""Relative error that products in float32 leave at the least."""


@dataclass(frozen=True)
class Windowed:
    """Eigenvalues, and how far they may be off.

    Attributes:
        eigenvalues: float64, descending.
        error: estimated bound of the error of each, float64, in the same order.
        trace_defect: the sum of the eigenvalues, minus the trace.
        square_defect: the sum of their squares, minus the square of the Frobenius norm.
    """

    eigenvalues: Tensor
    error: Tensor
    trace_defect: float = 0.0
    square_defect: float = 0.0

    def relative_error(self, before: Tensor) -> float:
        """Estimated relative error of |shift|_2, where shift = sqrt(eigenvalues) - before.

        The norm of all errors; and the defects, as if one eigenvalue of middling size were to blame for each.

        Args:
            before: the singular values that the eigenvalues are compared with, descending, float64, shape (n,).
        """
        after = self.eigenvalues.clamp_min(0).sqrt()
        size = float(torch.linalg.vector_norm(after - before))
        if size == 0:
            return 0.0
        # d sqrt(lambda) = d lambda / (sqrt(lambda) + sqrt(lambda')), and at most the root of d lambda
        sums = torch.maximum(after + before, self.error.sqrt()).clamp_min(1e-300)
        each = float(torch.linalg.vector_norm(self.error / sums))
        middle = max(float(before.median()), size / len(before) ** 0.5)
        missed = abs(self.trace_defect) / (2 * middle) + abs(self.square_defect) / (4 * middle**3)
        return RESOLUTION + (each + missed) / size


def windowed_eigenvalues(diagonal: Tensor, change: Tensor) -> Windowed | None:
    """Eigenvalues of ``diag(diagonal) + change``.

    Args:
        diagonal: float64, shape (n,), not negative, descending.
        change: symmetric, float32, shape (n, n).

    Returns:
        None where the change is not small against the distances of the eigenvalues, as some of the windows tell;
        where these fall too steeply; or n is too small.
    """
    count = len(diagonal)
    if count < SMALLEST:
        return None
    energies, change = _ordered(diagonal + change.diagonal(), change)
    halo = max(16, math.isqrt(count) // 2)  # neighbours on each side: couplings grow as sqrt(n) against distances
    end = max(2 * CENTER, count // 13)  # found together: at the lower end singular values are nearly zero
    spans = _spans(energies.tolist(), halo, end)
    if len(spans) > MOST_WINDOWS * count / CENTER:
        return None
    halos = [4 * halo if span.stop == count else halo for span in spans]
    places = [_Place(max(0, s.start - h), min(count, s.stop + h), s) for s, h in zip(spans, halos, strict=True)]
    answers = _Answers(energies)
    some = {*range(0, len(spans), SOME), len(spans) - 1}
    for chosen in (some, set(range(len(spans))) - some):
        for alike in _alike(places, chosen):
            windows = _Windows(energies, change, alike)
            if not windows.are_weakly_coupled(_room(energies, halo)):
                return None
            answers.add(windows)
        if not answers.windowed().relative_error(diagonal.sqrt()) <= ACCURACY:
            return None
    return answers.held_against(change)


def _ordered(energies: Tensor, change: Tensor) -> tuple[Tensor, Tensor]:
    """Both in descending order of the energies: an update may carry one past others."""
    order = energies.argsort(descending=True, stable=True)
    if bool((order[1:] > order[:-1]).all()):
        return energies, change
    return energies[order], change[order][:, order]


def _room(energies: Tensor, halo: int) -> Tensor:
    """How far each coordinate's eigenvalue may move and still be seen by every window that it may move to."""
    room = torch.full_like(energies, torch.inf)
    distance = energies[:-halo] - energies[halo:]
    room[halo:] = distance
    room[:-halo] = torch.minimum(room[:-halo], distance)
    return room


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


@dataclass(frozen=True)
class _Place:
    """Where a window lies: coordinates [low, high), of which it answers for `span`."""

    low: int
    high: int
    span: slice

    @property
    def shape(self) -> tuple[int, int, int]:
        """Equal of places whose windows can be done at once: the size, and `span` counted from `low`."""
        return self.high - self.low, self.span.start - self.low, self.span.stop - self.low


def _alike(places: Sequence[_Place], chosen: Collection[int]) -> Iterator[list[_Place]]:
    """Those of the `chosen` windows that can be done at once, as they are of one shape; the smallest first."""
    groups: dict[tuple[int, int, int], list[_Place]] = defaultdict(list)
    for index in sorted(chosen):
        groups[places[index].shape].append(places[index])
    for shape in sorted(groups):
        yield from (groups[shape][start : start + AT_ONCE] for start in range(0, len(groups[shape]), AT_ONCE))


class _Answers:
    """The eigenvalues as they are found; to begin with, those of first order."""

    def __init__(self, energies: Tensor) -> None:
        self.energies = energies
        self.eigenvalues = energies.clone()
        self.strength = torch.zeros_like(energies)
        self.ratio = 0.0

    def add(self, windows: _Windows) -> None:
        """Take in what some windows say."""
        eigenvalues, strength, ratio = windows.solved()
        for place, values, strengths in zip(windows.places, eigenvalues, strength, strict=True):
            self.eigenvalues[place.span], self.strength[place.span] = values, strengths
        self.ratio = max(self.ratio, ratio)

    def windowed(self, trace_defect: float = 0.0, square_defect: float = 0.0) -> Windowed:
        """All eigenvalues, with the first term that was neglected as their error."""
        eigenvalues, order = self.eigenvalues.sort(descending=True)
        error = SAFETY * self.ratio**2 * self.strength[order]
        return Windowed(eigenvalues, error, trace_defect, square_defect)

    def held_against(self, change: Tensor) -> Windowed:
        """All eigenvalues, with what trace and Frobenius norm say of them."""
        moved = self.eigenvalues - self.energies
        couplings = sum(float(part.double().square().sum()) for part in blocks_of(change))
        couplings -= float(change.diagonal().double().square().sum())
        squares = float(moved @ (self.eigenvalues + self.energies))
        return self.windowed(float(moved.sum()), squares - couplings)


class _Windows:
    """The effective eigenproblems of windows at `places` of one shape, energies relative to the window's."""

    def __init__(self, energies: Tensor, change: Tensor, places: Sequence[_Place]) -> None:
        self.change, self.places = change, places
        self.central = slice(*places[0].shape[1:])
        self.energy = torch.stack([energies[(p.span.start + p.span.stop) // 2] for p in places])[:, None]
        inside = torch.zeros(len(places), len(energies), dtype=torch.bool)
        for row, place in zip(inside, places, strict=True):
            row[place.low : place.high] = True
        self.inside = inside.to(energies.device)
        self.distance = (self.energy - energies).float().masked_fill_(self.inside, torch.inf)
        self.couplings = torch.stack([change[place.low : place.high] for place in places])
        outside = self.couplings / self.distance[:, None]
        self.metric = products(outside, outside.mT).double()
        block = torch.stack([change[place.low : place.high, place.low : place.high] for place in places]).double()
        own = torch.stack([energies[place.low : place.high] for place in places])
        block.diagonal(dim1=-2, dim2=-1).copy_(own - self.energy)
        self.block = block + products(outside, self.couplings.mT).double()

    def are_weakly_coupled(self, room: Tensor) -> bool:
        """Whether perturbation theory applies: little lies outside, and no eigenvalue moves past too many others.

        Args:
            room: how far that of each coordinate may move.
        """
        self.mixing = float(self.metric.diagonal(dim1=-2, dim2=-1)[:, self.central].max())
        couplings = self.block - torch.diag_embed(self.block.diagonal(dim1=-2, dim2=-1))
        moves = torch.linalg.vector_norm(couplings[:, self.central], dim=-1)
        rooms = torch.stack([room[place.span] for place in self.places])
        return self.mixing <= MIXING and bool((moves <= rooms).all())

    def solved(self) -> tuple[Tensor, Tensor, float]:
        """The central eigenvalues, descending, the norm of what the series added to each, and its largest ratio.

        Vectors and their tails, what lies outside the window, are rows.
        """
        metric = self.metric + torch.eye(self.metric.shape[-1], dtype=torch.float64, device=self.metric.device)
        factor = cholesky(metric)
        half = solve_triangular(factor, self.block, upper=False)
        ascending, rotated = eigh(solve_triangular(factor, half.mT, upper=False))
        values = ascending.flip(-1)[:, self.central]
        vectors = solve_triangular(factor.mT, rotated, upper=True).flip(-1)[..., self.central].mT.float()
        reached = products(vectors.contiguous(), self.couplings)
        offset = values.float()[..., None]
        gaps = offset + self.distance[:, None]
        first = reached / gaps
        image = product(first.flatten(0, 1), self.change).view(first.shape)
        image = torch.addcmul(image, first, self.change.diagonal(), value=-1)
        second = image / gaps
        # `block` has the dependence on lambda to first order; this is what is left of it
        curved = (first * reached * (offset / self.distance[:, None]) ** 2).sum(-1).double()
        series = products(first + second, image.mT).double()
        series = (series + series.mT) / 2 + torch.diag_embed(curved)
        corrected = eigvalsh(torch.diag_embed(values) + series).flip(-1) + self.energy
        sizes = [torch.linalg.matrix_norm(tails).clamp_min(1e-30) for tails in (first, second)]
        ratio = max(float((sizes[1] / sizes[0]).max()), self.mixing**0.5)
        return corrected, torch.linalg.vector_norm(series, dim=-1), ratio
