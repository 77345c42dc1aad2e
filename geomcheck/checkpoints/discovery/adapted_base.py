"""Whether W0 agrees with the model that an adapter names as its base."""

from __future__ import annotations

from collections.abc import Iterable

from geomcheck._lazy import torch
from geomcheck.checkpoints.run import Run
from geomcheck.checkpoints.source import WeightSource
from geomcheck.diagnostics.formats import FORMATS


def disagreement(run: Run, ours: WeightSource, theirs: WeightSource) -> str | None:
    """A weight that an adapter of the run changes and that two models do not have in common; None where there is none.

    Weights are compared in the coarser of both formats. Quantized ones are not: such a model may be named, and the one
    that it was made from be given. Raises RunError.
    """
    same_repository = ours.path.parent == theirs.path.parent and ours.path.parent.name == "snapshots"
    if ours.path.samefile(theirs.path) or same_repository:  # of the Hub's cache: another revision was asked for
        return None
    for name in _adapted(run, ours.weights.keys() & theirs.weights.keys()):
        if not {ours.weights[name].dtype, theirs.weights[name].dtype} <= set(FORMATS):
            continue
        one, other = ours.read(name), theirs.read(name)
        if not isinstance(one, torch.Tensor) or not isinstance(other, torch.Tensor):
            continue
        if not torch.equal(one.to(other.dtype), other) and not torch.equal(one, other.to(one.dtype)):
            return name
    return None


def _adapted(run: Run, names: Iterable[str]) -> list[str]:
    """Which of `names` of W0 an adapter changes; a bare model's lack the first parts of what the adapter calls them."""
    parts = (name.split(".") for name in run.checkpoints[0].source.weights)
    tails = {".".join(name[start:]) for name in parts for start in range(len(name))}
    return sorted(tails.intersection(names))
