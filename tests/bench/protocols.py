"""The ways to measure a weight that the benchmark compares: each sees the checkpoints of one weight in order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from geomcheck.diagnostics import Base, Metric, Update, load_metrics
from geomcheck.diagnostics.locking import alignment, subspace_energy, top_channel
from geomcheck.diagnostics.path import Path, path_of

CHANNEL, RANK, ALPHA, ETA, SHARE = 16, 64, 0.3, 1e-3, 8
"""Defaults of the metrics: K, rank and size of the principal mask, tolerance, and k = min(out, in) / SHARE."""

PATH = {metric.name for metric in load_metrics() if metric.of_path}
ON_REQUEST = {metric.name for metric in load_metrics() if metric.on_request}
ENTRIES = {metric.name for metric in load_metrics() if metric.of_entries} - PATH
ELEMENTWISE = ENTRIES - ON_REQUEST
UPDATE_ONLY = {"stable_rank", "hill_exponent", "top_energy", "subspace_alignment", "subspace_energy"} | ELEMENTWISE
ALL = {metric.name for metric in load_metrics()} - {"reference_alignment", "update_spectrum"} - PATH - ON_REQUEST
"""What the protocols have in common; those two come from the channels and values that other metrics take as well. What
the papers' protocol has none of, the path and what compares entries on request, are protocols of their own, beside the
metrics of entries."""

Figures = dict[str, float]


class Measurement(Protocol):
    """One way to measure a weight."""

    def see(self, wt: Tensor) -> None:
        """Measure the next checkpoint."""
        ...

    def figures(self) -> list[Figures]:
        """All figures, one mapping per checkpoint seen, once the last has been."""
        ...


class Paper:
    """The papers' own protocol: three float64 SVDs per checkpoint, arccos of the cosines, masks by top-k."""

    dtype = torch.float64

    def __init__(self, w0: Tensor, first: Tensor) -> None:
        self.w0 = w0
        self.other = self._changed(first)
        self.seen: list[tuple[Figures, Tensor, Tensor]] = []

    def see(self, wt: Tensor) -> None:
        """Three SVDs and every figure of this checkpoint."""
        a, b = self.w0.to(self.dtype), wt.to(self.dtype)
        d = b - a
        before, after, step = (torch.linalg.svd(matrix, full_matrices=False) for matrix in (a, b, d))
        s = self._update_values(d, step[1])
        figures = {**self._angles(before, after), **self._scalars(wt, a, d, before, after, s)}
        self.seen.append((figures, d, step[2][:CHANNEL].T))

    def figures(self) -> list[Figures]:
        """The figures, with those that compare checkpoints."""
        early, last = self.seen[0][2], self.seen[-1][2]
        for figures, d, channel in self.seen:
            figures["subspace_alignment"] = float((channel.T @ last).norm() ** 2 / CHANNEL)
            figures["subspace_energy"] = float((d @ early @ early.T).norm() ** 2 / d.norm() ** 2)
        return [figures for figures, _, _ in self.seen]

    def _update_values(self, d: Tensor, values: Tensor) -> Tensor:
        return values

    def _changed(self, wt: Tensor) -> Tensor:
        a, b = self.w0.float(), wt.float()
        return (b - a).abs() > ETA * torch.maximum(a.abs(), b.abs())

    def _angles(self, before: Any, after: Any) -> Figures:
        k = min(self.w0.shape) // SHARE
        cosines = {"left": before[0][:, :k].T @ after[0][:, :k], "right": before[2][:k] @ after[2][:k].T}
        sides = {name: torch.linalg.svdvals(c).clamp(-1, 1).arccos().rad2deg() for name, c in cosines.items()}
        figures: Figures = {}
        for side, values in {**sides, "both": torch.cat(list(sides.values()))}.items():
            ranked = {"max": values.max(), "mean": values.mean()}
            ranked |= {"median": values.quantile(0.5), "p95": values.quantile(0.95)}
            figures |= {f"principal_angle {side}.{stat}": float(value) for stat, value in ranked.items()}
        return figures

    def _masks(self, before: Any) -> dict[str, Tensor]:
        u, s, v = before
        scores = {
            "low_magnitude_overlap": -self.w0.to(self.dtype).abs(),
            "principal_overlap": ((u[:, :RANK] * s[:RANK]) @ v[:RANK]).abs(),
        }
        return {name: self._top(values, ALPHA) for name, values in scores.items()}

    def _top(self, scores: Tensor, alpha: float) -> Tensor:
        mask = torch.zeros(scores.numel(), dtype=torch.bool)
        mask[scores.flatten().topk(int(alpha * scores.numel())).indices] = True
        return mask

    def _scalars(self, wt: Tensor, a: Tensor, d: Tensor, before: Any, after: Any, s: Tensor) -> Figures:
        changed, k = self._changed(wt), min(a.shape) // SHARE
        shift, norm = (after[1] - before[1]).norm(), d.norm()
        ulp = 2.0 ** (torch.frexp(wt.float()).exponent.to(self.dtype) - 8)
        share = changed.double().mean()
        scalars = {
            "update_sparsity": 1 - share,
            "update_support": share,
            "frozen_share": (self.w0 == wt).all().double(),
            "mask_jaccard": (changed & self.other).sum() / (changed | self.other).sum(),
            "spectral_shift": shift / before[1].norm(),
            "spectral_share": shift / norm,
            "stable_rank": norm**2 / s[0] ** 2,
            "update_norm": norm,
            "relative_update_norm": norm / before[1].norm(),
            "hill_exponent": 1 / (s[: CHANNEL - 1] / s[CHANNEL - 1]).log().mean(),
            "top_energy": s[:CHANNEL].norm() ** 2 / norm**2,
            "principal_energy": (before[0][:, :k].T @ d @ before[2][:k].T).norm() ** 2 / norm**2,
            "decay_share": (d / norm * (a / a.norm())).sum(),
            "rounding_share": (ulp.pow(2).sum() / 12 / norm**2).clamp(max=1.0),
        }
        for name, mask in self._masks(before).items():
            scalars[name] = (mask & changed.flatten()).sum() / changed.sum()
        return {name: float(value) for name, value in scalars.items()}


class Peer(Paper):
    """The public peer's approach: float32, three full SVDs, the update's values once more, eight masks by top-k."""

    dtype = torch.float32

    def _update_values(self, d: Tensor, values: Tensor) -> Tensor:
        return torch.linalg.svdvals(d)

    def _masks(self, before: Any) -> dict[str, Tensor]:
        for alpha in (0.1, 0.2, 0.5):
            u, s, v = before
            self._top(-self.w0.float().abs(), alpha)
            self._top(((u[:, :RANK] * s[:RANK]) @ v[:RANK]).abs(), alpha)
        return super()._masks(before)


class Ours:
    """This package, for some of its metrics."""

    def __init__(self, w0: Tensor, first: Tensor, names: set[str], state: Mapping[str, Tensor]) -> None:
        self.base = Base.from_state(w0, state)
        self.other = first
        self.metrics = [metric for metric in load_metrics() if metric.name in names]
        self.seen: list[Figures] = []
        self.channels: list[Tensor] = []
        self.held: list[Tensor] = []
        self.way: Path | None = None
        self.here = 0
        self.routes: list[Mapping[str, Any]] = []

    def see(self, wt: Tensor) -> None:
        """Everything of this checkpoint that needs no other."""
        update, figures = Update(self.base, wt), {}
        for metric in self.metrics:
            if not metric.across:
                for stat, value in metric.compute(update, defaults(metric), self).items():
                    figures[metric.name if stat == "value" else f"{metric.name} {stat}"] = value
        if any(metric.of_path for metric in self.metrics):
            self.held.append(wt)
        if any(metric.across and not metric.of_path for metric in self.metrics):
            self.channels.append(top_channel(update, CHANNEL, "right"))
            figures["subspace_energy"] = subspace_energy(update, self.channels[0])
        self.seen.append(figures)
        self.routes.append(dict(update.routes))

    def reference(self) -> Update:
        """What `mask_jaccard` compares with: the first checkpoint stands in for a second run."""
        return Update(self.base, self.other)

    def channel(self, at: Any, k: int, side: str) -> Tensor:
        """Not asked for: what compares checkpoints is added by `figures`."""
        raise NotImplementedError

    def figures(self) -> list[Figures]:
        """The figures, with those that compare checkpoints."""
        for figures, channel in zip(self.seen, self.channels, strict=False):
            figures["subspace_alignment"] = alignment(channel, self.channels[-1])
        if self.held:
            steps = range(1, len(self.held) + 1)
            self.way = path_of(self.base.w0, steps, self.held.__getitem__, at_once=len(self.held) + 1)
        for index, wt in enumerate(self.held):
            self.here = index
            update = Update(self.base, wt)
            for metric in self.metrics:
                if metric.of_path and self.here + 1 >= metric.least:
                    self.seen[self.here][metric.name] = metric.compute(update, defaults(metric), self)["value"]
        return self.seen

    def path(self) -> Path:
        """As far as the checkpoint whose figures are added."""
        assert self.way
        return self.way.until(self.here)

    def cosine(self, at: Any) -> float:
        """With the last checkpoint."""
        assert self.way
        return self.way.cosine(self.here, len(self.held) - 1)


def defaults(metric: Metric) -> Mapping[str, object]:
    """The declared defaults of the parameters that change what is measured, or examples where there are none."""
    return {parameter.name: parameter.usual for parameter in metric.measured_parameters}


def protocols(w0: Tensor, first: Tensor, state: Mapping[str, Tensor]) -> dict[str, Callable[[], Measurement]]:
    """By name, in the order in which they take turns."""
    return {
        "paper": lambda: Paper(w0, first),
        "peer": lambda: Peer(w0, first),
        "cold": lambda: Ours(w0, first, ALL, {}),
        "cached": lambda: Ours(w0, first, ALL, state),
        "update-only": lambda: Ours(w0, first, UPDATE_ONLY, {}),
        "elementwise": lambda: Ours(w0, first, ELEMENTWISE, {}),
        "path": lambda: Ours(w0, first, ELEMENTWISE | PATH, {}),
        "on request": lambda: Ours(w0, first, ENTRIES, {}),
    }
