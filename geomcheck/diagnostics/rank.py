"""How large an update is and over how many directions it spreads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from geomcheck._lazy import late
from geomcheck.diagnostics.declaration import Metric, Parameter, Unit, resolve_rank, scalar, scalar_of_rank
from geomcheck.errors import Undefined

if TYPE_CHECKING:
    import torch

    from geomcheck.diagnostics import storage
    from geomcheck.diagnostics.update import Update
else:
    torch, storage = late("torch"), late("geomcheck.diagnostics.storage")

TOP_K = Parameter(name="k", kind="rank", default=16, about="How many of the largest singular values.")
HILL_K = Parameter(
    name="k",
    kind="rank",
    default=16,
    low=2,
    about="How many of the largest singular values form the tail; the paper does not state its choice.",
)

HILL_ERROR = 1e-3
"""Relative error of a Hill estimate: that of the singular values, over the mean of their logarithms."""

VALUE_ERRORS = (1e-5, 1e-9, 1e-14)
"""Relative errors of singular values that are tried in turn, the last being their rounding in float64."""

SPECTRUM = tuple(f"s{number:02d}" for number in range(1, 17))
"""Statistics of `update_spectrum`: the first singular value, the second, ..."""


def _energy_bounds(params: Mapping[str, Any], shape: tuple[int, ...]) -> tuple[float, float]:
    """The largest k of n squares are at least k / n of their sum."""
    return min(1.0, resolve_rank(params["k"], shape) / min(shape)), 1.0


def _spectrum_bounds(params: Mapping[str, Any], shape: tuple[int, ...]) -> tuple[float, float]:
    """The i-th of n squares, descending, is at most 1 / i of their sum; the first at least 1 / n."""
    index = SPECTRUM.index(params["index"]) + 1
    return (min(shape) ** -0.5 if index == 1 else 0.0), index**-0.5


def update_norm(update: Update) -> float:
    """``|D_t|_F``, >= 0. Source: arXiv 2606.07082."""
    return update.norm


def relative_update_norm(update: Update) -> float:
    """``|D_t|_F / |W0|_F``, >= 0.

    Raises:
        Undefined: W0 is zero.
    """
    if update.base.norm == 0:
        raise Undefined("W0 is zero, so the update norm has nothing to be relative to")
    return update.norm / update.base.norm


def stable_rank(update: Update) -> float:
    """``|D_t|_F^2 / |D_t|_op^2``, from 1 to min(out, in). Source: arXiv 2606.07082."""
    update.require_change()
    return max(1.0, (update.norm / update.spectrum.operator_norm) ** 2)


def hill_exponent(update: Update, k: int = 16) -> float:
    """Hill estimate of the tail of D_t's spectrum, ``1 / mean_{i<k} log(sigma_i / sigma_k)``, > 0.

    The mean runs over i = 1..k-1. Source: arXiv 2606.07082, which does not state k.

    Raises:
        Undefined: D_t has rank below k, its k largest singular values are equal, or k is 1.
    """
    if k < 2:
        raise Undefined("a Hill estimate needs k of at least 2")
    for error in VALUE_ERRORS:
        sigma = update.spectrum.top_values(k, within=error)
        if len(sigma) < k or sigma[-1] <= max(update.shape) * torch.finfo(torch.float64).eps * sigma[0]:
            raise Undefined(f"the update has rank below k = {k}, so its Hill estimate is undefined")
        mean_log = torch.log(sigma[:-1] / sigma[-1]).mean().item()
        if error <= HILL_ERROR * mean_log:
            return 1.0 / mean_log
    raise Undefined(f"the {k} largest singular values of the update are equal: there is no tail to fit")


def top_energy(update: Update, k: int = 16) -> float:
    """Share of ``|D_t|_F^2`` in its k largest singular values, 0..1. Source: arXiv 2606.13657."""
    update.require_change()
    top = torch.linalg.vector_norm(update.spectrum.top_values(k)).item()
    return min(1.0, (top / update.norm) ** 2)


def update_spectrum(update: Update) -> dict[str, float]:
    """The largest singular values of D_t relative to ``|D_t|_F``, each 0..1, descending; 0 beyond the rank."""
    update.require_change()
    top = update.spectrum.top_values(min(len(SPECTRUM), *update.shape))
    shares: list[float] = (top / update.norm).clamp(max=1.0).tolist()
    return dict(zip(SPECTRUM, shares + [0.0] * (len(SPECTRUM) - len(shares)), strict=True))


def rounding_share(update: Update) -> float:
    """Share of ``|D_t|_F^2`` that rounding W_t to its storage format explains: sum of ulp^2 / 12, at most 1.

    bf16 rounding noise is full-rank: where this share is large, stable rank, Hill and alignment describe the
    rounding rather than the training.
    """
    update.require_change()
    return min(1.0, storage.rounding_energy(update.wt) / update.norm**2)


STABLE_RANK = Metric(
    name="stable_rank",
    title="stable rank",
    definition="|D_t|_F^2 / |D_t|_op^2",
    unit=Unit.NUMBER,
    low=1.0,
    bounds=lambda _, shape: (1.0, float(min(shape))),
    at_most="min(out, in)",
    source="arXiv 2606.07082",
    undefined="D_t = 0",
    compute=scalar(stable_rank),
)

UPDATE_NORM = Metric(
    name="update_norm",
    title="update norm",
    definition="|D_t|_F",
    unit=Unit.NUMBER,
    source="arXiv 2606.07082",
    when_unchanged=True,
    of_entries=True,
    compute=scalar(update_norm),
)

RELATIVE_UPDATE_NORM = Metric(
    name="relative_update_norm",
    title="relative update norm",
    definition="|D_t|_F / |W_0|_F",
    unit=Unit.FRACTION,
    source="arXiv 2606.07082; arXiv 2606.13657",
    undefined="W_0 is zero",
    when_unchanged=True,
    of_entries=True,
    compute=scalar(relative_update_norm),
)

HILL_EXPONENT = Metric(
    name="hill_exponent",
    title="Hill tail estimate",
    definition="1 / mean_{i<k} log(sigma_i / sigma_k) over the top k singular values of D_t",
    unit=Unit.NUMBER,
    parameters=(HILL_K,),
    source="arXiv 2606.07082 (k not stated there)",
    undefined="D_t = 0, its rank is below k, or its k largest singular values are equal",
    compute=scalar_of_rank(hill_exponent),
)

TOP_ENERGY = Metric(
    name="top_energy",
    title="top-k energy",
    definition="sum of the k largest sigma_i(D_t)^2 / |D_t|_F^2",
    unit=Unit.FRACTION,
    high=1.0,
    bounds=_energy_bounds,
    parameters=(TOP_K,),
    source="arXiv 2606.13657",
    undefined="D_t = 0",
    compute=scalar_of_rank(top_energy),
)

UPDATE_SPECTRUM = Metric(
    name="update_spectrum",
    title="singular spectrum of the update",
    definition="sigma_i(D_t) / |D_t|_F for the 16 largest singular values",
    unit=Unit.FRACTION,
    high=1.0,
    bounds=_spectrum_bounds,
    parameters=(
        Parameter(
            name="index",
            kind="choice",
            choices=SPECTRUM,
            default="s01",
            selects=True,
            about="Which singular value, from the largest (s01) to the sixteenth (s16); 0 beyond the rank.",
        ),
    ),
    source="geomcheck; the spectrum behind stable rank, Hill and top-k energy",
    undefined="D_t = 0",
    compute=lambda update, _params, _run: update_spectrum(update),
)

ROUNDING_SHARE = Metric(
    name="rounding_share",
    title="rounding-noise share",
    definition="sum of ulp(w_t)^2 / 12 / |D_t|_F^2, at most 1",
    unit=Unit.FRACTION,
    high=1.0,
    source="geomcheck",
    undefined="D_t = 0",
    of_entries=True,
    compute=scalar(rounding_share),
)
