"""Weights and updates made to mislead the fast routes, and how far every figure of them is from brute force.

Each adversary is a spectrum of W0 times an update times a shape times a storage format. ``python -m
tests.diagnostics.adversaries`` measures a sample of them, or with ``--all`` every one, and prints a table by route.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product

import numpy as np
import torch
from hypothesis import strategies as st
from scipy.linalg import expm
from torch import Tensor

from geomcheck.diagnostics import Base, Metric, Update, load_metrics
from geomcheck.diagnostics.linalg import ACCURACY, Route, perturbation
from geomcheck.diagnostics.lowrank import LowRank
from tests.diagnostics import oracle
from tests.diagnostics.cases import Array, Run, Shape, numbers, spacing, with_values
from tests.diagnostics.edges import Compared, compare, depends_on_k

Rng = np.random.Generator

# ---- spectra of W0


def _with(values: Array, shape: Shape, rng: Rng) -> Array:
    return with_values(shape, values, int(rng.integers(2**31)))


def _power(exponent: float) -> Callable[[Shape, Rng], Array]:
    return lambda shape, rng: _with(np.arange(1.0, min(shape) + 1) ** -exponent, shape, rng)


def _rank(share: float) -> Callable[[Shape, Rng], Array]:
    """Exactly of this share of the full rank: in float64 by integers, so that it is exact."""

    def made(shape: Shape, rng: Rng) -> Array:
        rank = max(1, int(share * min(shape)))
        return rng.integers(-4, 5, (shape[0], rank)).astype(float) @ rng.integers(-4, 5, (rank, shape[1])) / 64

    return made


def _tied(gap: float) -> Callable[[Shape, Rng], Array]:
    """Singular values k and k + 1 `gap` apart, relative to themselves, at every k that is asked for, and others."""

    def made(shape: Shape, rng: Rng) -> Array:
        values = np.linspace(2.0, 1.0, min(shape))
        for k in {*ks_of(shape), len(values) // 2, len(values) - 3}:
            values[k] = values[k - 1] * (1 - gap)
        return _with(values, shape, rng)

    return made


def _outliers(count: int, factor: float) -> Callable[[Shape, Rng], Array]:
    def made(shape: Shape, rng: Rng) -> Array:
        values = np.linspace(1.5, 0.5, min(shape))
        values[:count] = factor * np.linspace(1.2, 1.0, count)
        return _with(values, shape, rng)

    return made


def _clusters(shape: Shape, rng: Rng) -> Array:
    size = min(shape)
    values = np.repeat(np.linspace(3.0, 1.0, 8), -(-size // 8))[:size] * (1 + 1e-5 * rng.standard_normal(size))
    return _with(np.sort(values)[::-1].copy(), shape, rng)


def _zero_rows(shape: Shape, rng: Rng) -> Array:
    w0 = rng.standard_normal(shape)
    w0[rng.choice(shape[0], max(1, shape[0] // 10), replace=False)] = 0
    return w0


def _permuted_diagonal(shape: Shape, rng: Rng) -> Array:
    w0, size = np.zeros(shape), min(shape)
    w0[rng.permutation(shape[0])[:size], rng.permutation(shape[1])[:size]] = rng.uniform(0.5, 2.0, size)
    return w0


def _row_scaled(shape: Shape, rng: Rng) -> Array:
    return rng.standard_normal(shape) * np.exp(rng.standard_normal((shape[0], 1)))


def _blocks(shape: Shape, rng: Rng) -> Array:
    w0 = np.zeros(shape)
    for block in range(4):
        rows, columns = (slice(block * side // 4, (block + 1) * side // 4) for side in shape)
        part = w0[rows, columns]
        w0[rows, columns] = rng.standard_normal(part.shape) * (1 + 0.3 * block)
    return w0


SPECTRA: Mapping[str, Callable[[Shape, Rng], Array]] = {
    "Gaussian": lambda shape, rng: rng.standard_normal(shape),
    "power law .5": _power(0.5),
    "power law 1": _power(1.0),
    "power law 2": _power(2.0),
    "an eighth of the rank": _rank(1 / 8),
    "half of the rank": _rank(1 / 2),
    "clusters": _clusters,
    "ties of 1e-3": _tied(1e-3),
    "ties of 1e-5": _tied(1e-5),
    "ties of 1e-7": _tied(1e-7),
    "ties of 1e-9": _tied(1e-9),
    "outlier x 10": _outliers(1, 10),
    "outlier x 100": _outliers(1, 100),
    "outlier x 1000": _outliers(1, 1000),
    "5 outliers x 10": _outliers(5, 10),
    "5 outliers x 1000": _outliers(5, 1000),
    "zero rows": _zero_rows,
    "permuted diagonal": _permuted_diagonal,
    "row-scaled": _row_scaled,
    "blocks": _blocks,
}


# ---- updates


@dataclass(frozen=True)
class Start:
    """W0 and its singular value decomposition."""

    w0: Array
    u: Array
    s: Array
    v: Array

    @property
    def size(self) -> int:
        return len(self.s)

    def of(self, u: Array | None = None, s: Array | None = None, v: Array | None = None) -> Array:
        """What W0 becomes where one of its factors is another, minus W0."""
        return ((self.u if u is None else u) * (self.s if s is None else s) @ (self.v if v is None else v).T) - self.w0

    def along(self, p: int, q: int) -> Array:
        """``u_p v_q^T``."""
        return np.outer(self.u[:, p], self.v[:, q])


Change = Callable[[Start, Rng], Array]


def _along(place: float, factor: float) -> Change:
    """One singular value is increased by `factor` times itself."""

    def made(start: Start, _: Rng) -> Array:
        p = min(start.size - 1, int(place * start.size))
        return factor * start.s[p] * start.along(p, p)

    return made


def _top_two(factor: float) -> Change:
    def made(start: Start, _: Rng) -> Array:
        s = start.s
        return factor * (s[0] * start.along(0, 1) + s[1] * start.along(1, 0) + s[1] * start.along(1, 1))

    return made


def _scaled_by_noise(factor: float) -> Change:
    return lambda start, rng: start.of(s=start.s * (1 + factor * rng.standard_normal(start.size)))


def _rotated(degrees: float, which: str) -> Change:
    """Pairs of right singular vectors are turned into each other: neighbours, the two ends, or across the cut."""
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))

    def made(start: Start, _: Rng) -> Array:
        v, k = start.v.copy(), max(1, start.size // 8)
        pairs = {"near": (lambda i: (2 * i, 2 * i + 1)), "far": (lambda i: (i, start.size - 1 - i))}
        pairs["cut"] = lambda i: (k - 1 - i, k + i)
        for i, j in map(pairs[which], range(k)):
            v[:, i], v[:, j] = cos * start.v[:, i] + sin * start.v[:, j], cos * start.v[:, j] - sin * start.v[:, i]
        return start.of(v=v)

    return made


def _all_rotated(degrees: float) -> Change:
    """All right singular vectors are turned, none by more than `degrees`."""

    def made(start: Start, rng: Rng) -> Array:
        generator = rng.standard_normal((start.w0.shape[1],) * 2)
        generator -= generator.T
        generator *= np.radians(degrees) / np.linalg.norm(generator, 2)
        return start.w0 @ expm(generator) - start.w0

    return made


def _of_norm(update: Array, share: float, start: Start) -> Array:
    return share * np.linalg.norm(start.w0) / np.linalg.norm(update) * update


def _low_rank(rank: int, share: float) -> Change:
    def made(start: Start, rng: Rng) -> Array:
        left, right = rng.standard_normal((start.w0.shape[0], rank)), rng.standard_normal((rank, start.w0.shape[1]))
        return _of_norm(left @ right, share, start)

    return made


def _noise(share: float) -> Change:
    return lambda start, rng: _of_norm(rng.standard_normal(start.w0.shape), share, start)


def _spiked_noise(start: Start, rng: Rng) -> Array:
    """A few directions 50 times over a flat rest."""
    spikes = rng.standard_normal((start.w0.shape[0], 4)) @ rng.standard_normal((4, start.w0.shape[1]))
    rest = rng.standard_normal(start.w0.shape)
    return _of_norm(50 * spikes / np.linalg.norm(spikes, 2) + rest / np.linalg.norm(rest, 2), 1e-2, start)


def _signs(share: float) -> Change:
    return lambda start, rng: np.where(rng.random(start.w0.shape) < share, -2 * start.w0, 0.0)


def _permuted(count: int | None) -> Change:
    """Rows change places: the singular values stay."""

    def made(start: Start, rng: Rng) -> Array:
        order = np.arange(len(start.w0))
        chosen = rng.choice(len(order), count or len(order), replace=False)
        order[chosen] = np.roll(chosen, 1)
        return start.w0[order] - start.w0

    return made


def _entry(size: float) -> Change:
    def made(start: Start, rng: Rng) -> Array:
        change = np.zeros_like(start.w0)
        change[rng.integers(change.shape[0]), rng.integers(change.shape[1])] = size * np.abs(start.w0).max()
        return change

    return made


def _coupled(share: float) -> Change:
    """A few directions are coupled with a few distant ones, strongly, and all others are left alone."""

    def made(start: Start, rng: Rng) -> Array:
        p, q, few = 2 * start.size // 5, 7 * start.size // 10, min(8, start.size // 4)
        mixed = rng.standard_normal((few, few))
        return share * start.s[p] * start.u[:, p : p + few] @ mixed @ start.v[:, q : q + few].T

    return made


def _grid(start: Start, _: Rng) -> Array:
    """Everything is rounded to 8 bits."""
    step = np.abs(start.w0).max() / 127
    return np.round(start.w0 / step) * step - start.w0


UPDATES: Mapping[str, Change] = {
    **{
        f"u_p v_p, p at {p:.1%}, x {f}": _along(p, f)
        for p in (0, 0.004, 0.06, 0.125, 0.24, 0.5, 0.8, 1)
        for f in (0.3, 2)
    },
    "top two x .1": _top_two(0.1),
    "top two x .5": _top_two(0.5),
    "values x noise .1%": _scaled_by_noise(0.001),
    "values x noise 3%": _scaled_by_noise(0.03),
    "values x noise 30%": _scaled_by_noise(0.3),
    "values x 1.01": lambda start, _: 0.01 * start.w0,
    "values x .5": lambda start, _: -0.5 * start.w0,
    "values shifted": lambda start, _: start.of(s=(start.s + np.roll(start.s, 1)) / 2),
    **{f"{which} by {d} deg": _rotated(d, which) for d in (0.01, 1, 20, 89) for which in ("near", "far", "cut")},
    **{f"all by {d} deg": _all_rotated(d) for d in (0.01, 1, 30)},
    "rank 1": _low_rank(1, 1e-2),
    "rank 16": _low_rank(16, 1e-2),
    **{f"noise {share:.0e}": _noise(share) for share in (1e-12, 1e-7, 1e-4, 1e-2, 0.1, 1, 1e3)},
    "spikes over noise": _spiked_noise,
    "some signs": _signs(1e-3),
    "all signs": _signs(1.0),
    "3 rows permuted": _permuted(3),
    "all rows permuted": _permuted(None),
    "one entry": _entry(0.5),
    "one huge entry": _entry(100.0),
    "coupled by .01": _coupled(0.01),
    "coupled by .1": _coupled(0.1),
    "8 bits": _grid,
}


# ---- shapes, and how they are stored

SHAPES: tuple[Shape, ...] = (
    (40, 56),
    (127, 140),  # one below and
    (128, 130),  # at the size from which leading eigenpairs are computed alone
    (255, 270),  # one below and
    (256, 256),  # at the size from which fast routes answer
    (257, 320),
    (320, 288),
)

LARGE_SHAPES: tuple[Shape, ...] = ((512, 512), (768, 1024), (2048, 2048), (2049, 2050))
"""On both sides of the size up to which the Gram matrix of an update is formed. Brute force takes minutes here."""

DTYPES = {"fp64": torch.float64, "fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
STORAGES = (*DTYPES, "adapter")

RANK = 12
"""Of adapters: the update's largest directions, as fp32 factors over a bf16 W0."""


def ks_of(shape: Shape) -> tuple[int, ...]:
    """The rank that fast routes of D go up to, one more, and the share that principal angles take by default."""
    return tuple(sorted({16, 17, max(1, min(shape) // 8)}))


@dataclass(frozen=True, eq=False)
class Adversary:
    """A weight and two checkpoints of it.

    Attributes:
        spectrum, update, other: names of W0's spectrum and of the two updates.
        shape, storage: see `SHAPES` and `STORAGES`.
        seed: of all that is random.
    """

    spectrum: str
    update: str
    shape: Shape
    storage: str
    other: str = "rank 16"
    seed: int = 0

    @cached_property
    def w0(self) -> Tensor:
        w0 = SPECTRA[self.spectrum](self.shape, np.random.default_rng(self.seed))
        return torch.tensor(w0).to(DTYPES.get(self.storage, torch.bfloat16))

    @cached_property
    def wt(self) -> Tensor | LowRank:
        return self._moved(self.update)

    @cached_property
    def later(self) -> Tensor | LowRank:
        return self._moved(self.other)

    def _moved(self, update: str) -> Tensor | LowRank:
        before = numbers(self.w0)
        change = UPDATES[update](Start(before, *oracle.spectrum(before)), np.random.default_rng(self.seed + 1))
        if self.storage != "adapter":
            return torch.tensor(before + change).to(self.w0.dtype)
        u, s, v = oracle.spectrum(change)
        left, right = (u[:, :RANK] * s[:RANK]).astype(np.float32), v[:, :RANK].T.astype(np.float32)
        return LowRank(torch.tensor(left).double(), torch.tensor(right).double())

    @property
    def is_sound(self) -> bool:
        """Whether the format can hold it, and something has changed: all else is refused before it is measured."""
        sums = [self.weight.w0.sum(), self.weight.wt.sum(), self.weight.other.sum()]
        return bool(np.isfinite(sums).all() and self.weight.d.any() and self.weight.e.any())

    @cached_property
    def weight(self) -> oracle.Weight:
        """As brute force sees it."""
        before = numbers(self.w0)
        if isinstance(self.wt, Tensor) and isinstance(self.later, Tensor):
            return oracle.Weight(before, numbers(self.wt), numbers(self.later), spacing(self.wt))
        changes = tuple(stored.matrix.numpy() for stored in (self.wt, self.later))
        merged = torch.tensor(before + changes[0]).float()
        return oracle.Weight(before, before + changes[0], before + changes[1], spacing(merged), changes)

    @property
    def run(self) -> Run:
        """As metrics see it."""
        base = Base(self.w0)
        return Run(Update(base, self.wt), Update(base, self.later))

    def __str__(self) -> str:
        return f"{self.spectrum}; {self.update}; {self.shape[0]}x{self.shape[1]} {self.storage}"


def adversaries(shapes: Iterable[Shape] = SHAPES, storages: Iterable[str] = STORAGES) -> Iterator[Adversary]:
    """All of them."""
    for spectrum, update, shape, storage in product(SPECTRA, UPDATES, shapes, storages):
        yield Adversary(spectrum, update, shape, storage)


def sampled(count: int, shapes: Iterable[Shape] = SHAPES, storages: Iterable[str] = STORAGES) -> list[Adversary]:
    """`count` of them, the same ones every time: each spectrum, update, shape and storage as often as any other."""
    rng, decks = random.Random(0), [list(SPECTRA), list(UPDATES), list(shapes), list(storages)]
    for deck in decks:
        rng.shuffle(deck)
    return [Adversary(*(deck[index % len(deck)] for deck in decks)) for index in range(count)]


ANY = st.builds(
    Adversary,
    spectrum=st.sampled_from(list(SPECTRA)),
    update=st.sampled_from(list(UPDATES)),
    shape=st.sampled_from(SHAPES),
    storage=st.sampled_from(STORAGES),
    other=st.sampled_from(["rank 16", "noise 1e-02", "spikes over noise"]),
    seed=st.integers(0, 2**16),
).filter(lambda adversary: adversary.is_sound)


# ---- against the definitions


@contextmanager
def windows_at_every_size() -> Iterator[None]:
    """Let windows answer for small weights too, whose brute force takes no minutes."""
    usual, perturbation.WINDOWS_FROM = perturbation.WINDOWS_FROM, 0
    try:
        yield
    finally:
        perturbation.WINDOWS_FROM = usual


QUANTITIES: Mapping[str, str] = {
    "principal_angle": "principal angles, k={}",
    "spectral_shift": "spectral shift",
    "spectral_share": "spectral shift",
    "stable_rank": "singular values",
    "hill_exponent": "singular values",
    "top_energy": "singular values",
    "update_spectrum": "singular values",
    "subspace_alignment": "channel of D, k={}",
    "subspace_energy": "channel of D, k={}",
    "reference_alignment": "channel of D, k={}",
}
"""The quantity behind a metric, as `Update.routes` calls it."""

SHIFTS = ("spectral_shift", "spectral_share")


@dataclass(frozen=True)
class Judged:
    """A metric of an adversary.

    Attributes:
        route: what answered, for people.
        compared: with brute force.
    """

    adversary: Adversary
    metric: Metric
    k: int
    route: str
    compared: Compared

    @property
    def is_kept(self) -> bool:
        """Whether it is within what is promised."""
        return not self.compared.problem and (self.compared.error or 0.0) <= ACCURACY

    def __str__(self) -> str:
        return f"{self.adversary}, {self.metric.name}, k = {self.k} ({self.route}): {self.compared}"


def judged(adversary: Adversary, names: Collection[str] | None = None) -> Iterator[Judged]:
    """Every metric of an adversary, or those of `names`, with every k that matters; by one `Update`, as in a run."""
    run, weight = adversary.run, adversary.weight
    for metric in (metric for metric in load_metrics() if names is None or metric.name in names):
        for k in ks_of(adversary.shape) if depends_on_k(metric) else (1,):
            compared = compare(run, weight, metric, k)
            yield Judged(adversary, metric, k, _route(metric, k, run), compared)


def _route(metric: Metric, k: int, run: Run) -> str:
    """What answered last of the quantity behind `metric`."""
    quantity = QUANTITIES.get(metric.name, "nothing").format(k)
    update = run.other if metric.name == "subspace_energy" else run.this
    if isinstance(update.stored, LowRank) and quantity.startswith(("singular", "channel")):
        return Route.FACTORS.value
    answered = [found.route.value for what, found in update.routes.items() if what.startswith(quantity)]
    return answered[-1] if answered else "-"


@dataclass
class Tally:
    """What came of the figures of one route."""

    figures: int = 0
    worst: float = 0.0
    without: int = 0


@dataclass
class Table:
    """What came of adversaries.

    Attributes:
        count: how many there were.
        tallies: by metric and route.
        broken: what is beyond the promise.
    """

    count: int
    tallies: dict[tuple[str, str], Tally] = field(default_factory=dict)
    broken: list[Judged] = field(default_factory=list)

    @classmethod
    def of(cls, some: Iterable[Adversary]) -> Table:
        """Measure them all."""
        found = cls(0)
        for adversary in map(replace, some):  # what each has computed goes with it
            if not adversary.is_sound:
                continue
            found.count += 1
            found._add(judged(adversary))
            with windows_at_every_size():
                found._add(one for one in judged(adversary, SHIFTS) if one.route == Route.WINDOWS)
        return found

    def _add(self, some: Iterable[Judged]) -> None:
        for one in some:
            tally = self.tallies.setdefault((one.metric.name, one.route), Tally())
            if one.compared.error is None:
                tally.without += 1
            else:
                tally.figures, tally.worst = tally.figures + 1, max(tally.worst, one.compared.error)
            if not one.is_kept:
                self.broken.append(one)

    def __str__(self) -> str:
        lines = [f"{'metric':22} {'route':54} {'figures':>8} {'worst error':>12} {'not compared':>13}"]
        for (metric, route), tally in sorted(self.tallies.items()):
            lines.append(f"{metric:22} {route:54} {tally.figures:8} {tally.worst:12.1e} {tally.without:13}")
        beyond = f"beyond the promise: {len(self.broken)}"
        return "\n".join([f"{self.count} adversaries", *lines, beyond, *map(str, self.broken)])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000, help="how many, drawn evenly from all")
    parser.add_argument("--all", action="store_true", help="all of them, which takes a day")
    parser.add_argument("--large", action="store_true", help="at larger shapes")
    args = parser.parse_args()
    shapes = LARGE_SHAPES if args.large else SHAPES
    torch.set_num_threads(1)
    print(Table.of(adversaries(shapes) if args.all else sampled(args.count, shapes)))


if __name__ == "__main__":
    main()
