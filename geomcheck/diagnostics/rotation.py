"""How far the principal subspaces of a weight turn, and how much of an update lies inside them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from geomcheck._lazy import late
from geomcheck.diagnostics.declaration import Metric, Parameter, RunView, Unit, resolve_rank, scalar_of_rank
from geomcheck.diagnostics.null import EXCESS_OVER, with_null

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from geomcheck.diagnostics.linalg import kernels
    from geomcheck.diagnostics.update import Update
else:
    torch, kernels = late("torch"), late("geomcheck.diagnostics.linalg.kernels")

SIDES = ("left", "right", "both")
SUMMARIES = ("max", "mean", "median", "p95")

PRINCIPAL_K = Parameter(
    name="k",
    kind="rank",
    default="12.5%",
    about="Dimension of the principal subspace; the paper uses 512 of 4096.",
)


def rotation_angles(update: Update, k: int) -> dict[str, Tensor]:
    """Principal angles between the top-k singular subspaces of W0 and W_t, in degrees, ascending.

    Returns:
        k angles for ``left`` (column spaces U), k for ``right`` (row spaces V), 2k for ``both``.

    Raises:
        Undefined: W0 or W_t has no unique top-k subspace.

    Source: arXiv 2606.07082 and 2511.08567 (k = 512, float64).
    """
    left, right = (side.rad2deg() for side in update.angles(k))
    return {"left": left, "right": right, "both": torch.cat([left, right]).sort().values}


def summaries(angles: Tensor) -> dict[str, float]:
    """The statistics of a vector of angles that suites can ask for."""
    return {
        "max": angles.max().item(),
        "mean": angles.mean().item(),
        "median": angles.quantile(0.5).item(),
        "p95": angles.quantile(0.95).item(),
    }


def _angle_bounds(params: Mapping[str, Any], shape: tuple[int, ...]) -> tuple[float, float]:
    """Two subspaces of dimension k in n dimensions share 2k - n: so many angles are zero, and no other need be."""
    k, (out, in_) = resolve_rank(params["k"], shape), shape
    counted = {"left": (out,), "right": (in_,), "both": (out, in_)}[params["side"]]
    shared = [min(k, max(0, 2 * k - ambient)) for ambient in counted]
    largest = [0.0] * sum(shared) + [90.0] * (k * len(shared) - sum(shared))
    position = {"median": 0.5, "p95": 0.95, "max": 1.0}.get(params["stat"])
    return 0.0, float(np.mean(largest) if position is None else np.quantile(largest, position))


def principal_energy(update: Update, k: int) -> float:
    """Share of the update inside W0's principal subspaces, ``|U0_k^T D V0_k|_F^2 / |D|_F^2``, 0..1.

    Source: arXiv 2606.13657. A random rotation gives ``k^2 / (out in)``.
    """
    update.require_change()
    left, right = update.base.principal(k)
    delta = update.delta.matrix
    return update.energy(kernels.product(left.to(delta.dtype).T, kernels.product(delta, right.to(delta.dtype))))


def _angles(update: Update, params: Mapping[str, Any], _: RunView) -> Mapping[str, float]:
    k = resolve_rank(params["k"], update.shape)
    return {
        f"{side}.{name}": value
        for side, angles in rotation_angles(update, k).items()
        for name, value in summaries(angles).items()
    }


PRINCIPAL_ANGLE = Metric(
    name="principal_angle",
    title="principal-angle rotation",
    definition="angles between the top-k singular subspaces of W_0 and W_t, left and right",
    unit=Unit.DEGREES,
    high=90.0,
    bounds=_angle_bounds,
    parameters=(
        PRINCIPAL_K,
        EXCESS_OVER,
        Parameter(
            name="side",
            kind="choice",
            choices=SIDES,
            default="both",
            selects=True,
            about="Left singular subspaces (U), right (V), or the angles of both pooled.",
        ),
        Parameter(
            name="stat",
            kind="choice",
            choices=SUMMARIES,
            default="median",
            selects=True,
            about="Summary of the k angles. The maximum is set by accidental gaps of the spectrum: prefer the median.",
        ),
    ),
    source="arXiv 2606.07082; arXiv 2511.08567",
    undefined="the rank of W_0 or W_t is below k, or its singular values are tied at k",
    when_unchanged=True,
    compute=with_null(_angles),
)

PRINCIPAL_ENERGY = Metric(
    name="principal_energy",
    title="principal energy",
    definition="|U0_k^T D_t V0_k|_F^2 / |D_t|_F^2",
    unit=Unit.FRACTION,
    high=1.0,
    baseline="k^2 / (out in)",
    parameters=(PRINCIPAL_K, EXCESS_OVER),
    source="arXiv 2606.13657",
    undefined="D_t = 0, or W_0 has no unique top-k subspace",
    compute=with_null(scalar_of_rank(principal_energy)),
)
