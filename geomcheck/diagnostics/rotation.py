"""How far the principal subspaces of a weight turn, and how much of an update lies inside them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from geomcheck._lazy import torch
from geomcheck.diagnostics.declaration import Metric, Parameter, RunView, Unit, resolve_rank, scalar, share
from geomcheck.diagnostics.null import EXCESS_OVER, with_null
from geomcheck.diagnostics.reading import Level, Published, Words

if TYPE_CHECKING:
    from torch import Tensor

    from geomcheck.diagnostics.update import Update

SIDES = ("left", "right", "both")
SUMMARIES = ("max", "mean", "median", "p95")

PRINCIPAL_K = Parameter(
    name="k", kind="rank", default="12.5%", about="Dimension of the principal subspace; the paper uses 512 of 4096."
)


def rotation_angles(update: Update, k: int) -> dict[str, Tensor]:
    """Principal angles between the top-k singular subspaces of W0 and W_t, in degrees, ascending.

    Returns:
        float64, shapes (k,) for ``left`` (column spaces U) and ``right`` (row spaces V), (2k,) for ``both``.

    The main input direction turns from the first axis to the diagonal, the main output direction stays:

    >>> after = torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    >>> angles = rotation_angles(Update(Base(torch.diag(torch.tensor([2.0, 1.0]))), after), k=1)
    >>> {side: [round(angle, 6) for angle in found.tolist()] for side, found in angles.items()}
    {'left': [0.0], 'right': [45.0], 'both': [0.0, 45.0]}

    Raises:
        Undefined: W0 or W_t has no unique top-k subspace.

    Source: arXiv 2606.07082 and 2511.08567 (k = 512, float64).
    """
    left, right = (side.rad2deg() for side in update.angles(k))
    return {"left": left, "right": right, "both": torch.cat([left, right]).sort().values}


def summaries(angles: Tensor) -> dict[str, float]:
    """The statistics that suites can ask for, of angles of shape (any,).

    >>> summaries(torch.tensor([0.0, 10.0, 20.0]))["median"]
    10.0
    """
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

    U0_k has shape (out, k) and V0_k (in, k). Source: arXiv 2606.13657. A random rotation gives ``k^2 / (out in)``.

    >>> before, after = torch.diag(torch.tensor([2.0, 1.0])), torch.diag(torch.tensor([5.0, 5.0]))
    >>> round(principal_energy(Update(Base(before), after), k=1), 6)  # 9 of 9 + 16
    0.36

    Raises:
        Undefined: D_t is zero, or W0 has no unique top-k subspace.
    """
    update.require_change()
    left, right = update.base.principal(k)
    return update.energy(right, left)


def _angles(update: Update, params: Mapping[str, Any], _: RunView) -> Mapping[str, float]:
    k = resolve_rank(params["k"], update.shape)
    sides = {side: summaries(angles) for side, angles in rotation_angles(update, k).items()}
    return {f"{side}.{name}": value for side, found in sides.items() for name, value in found.items()}


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
    words=Words(
        "How far the main directions of each weight matrix turned: 0 degrees means that they stayed, 90 that they "
        "were replaced.",
        "The main directions of the weights turned further than they should have: what the base model had learned "
        "is being moved, not just refined.",
        "The main directions of the weights hardly turned: the update is weaker than this kind of training gives.",
    ),
    distrust="With stat: max it is set by accidental gaps of the spectrum: 11.5 degrees for noise whose mean angle is "
    "0.36. Keep the median.",
    inflated_by_rounding=True,  # a small update turns few directions, its rounding turns all of them
    drawn="trajectory",
    published=Published(
        levels=(Level("sft", "above 10°", 10.0), Level("opd", "about 1°", 1.0), Level("rlvr", "below 0.5°", 0.5))
    ),
    example=("0.5 deg", "1.5 deg"),
    synonyms=(
        "rotation",
        "angle",
        "principal_angles",
        "principal_rotation",
        "subspace_angle",
        "subspace_rotation",
        "principal_subspace_rotation",
        "grassmann",
    ),
)

PRINCIPAL_ENERGY = share(
    name="principal_energy",
    title="principal energy",
    definition="|U0_k^T D_t V0_k|_F^2 / |D_t|_F^2",
    baseline="k^2 / (out in)",
    parameters=(PRINCIPAL_K, EXCESS_OVER),
    source="arXiv 2606.13657",
    undefined="D_t = 0, or W_0 has no unique top-k subspace",
    compute=with_null(scalar(principal_energy, "k")),
    words=Words(
        "How much of the update lies inside the main directions of the original weights.",
        "The update works on the main directions of the original weights more than it should.",
        "The update avoids the main directions of the original weights more than it should.",
    ),
    distrust="Compare it with chance, k^2 / (out in), or judge the excess, with excess_over: shuffled.",
    example=("2%", "10%"),
    synonyms=("principal_share", "energy_in_principal_subspace"),
)
