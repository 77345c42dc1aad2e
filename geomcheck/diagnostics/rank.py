"""How large an update is and over how many directions it spreads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from geomcheck._lazy import late, torch
from geomcheck.diagnostics.declaration import Metric, Parameter, Unit, resolve_rank, scalar, share
from geomcheck.diagnostics.reading import Follows, Level, Published, Words
from geomcheck.errors import Undefined

if TYPE_CHECKING:
    from geomcheck.diagnostics import storage
    from geomcheck.diagnostics.update import Update
else:
    storage = late("geomcheck.diagnostics.storage")

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

FARTHER = Words(
    "How large the whole change of a weight matrix is.",
    "The weights moved further than they should have.",
    "The weights moved less than they should have.",
)
BY_TRAINING = Published(remark="SFT moves most, OPD well above RLVR, RLVR least (no figures given).")


def _energy_bounds(params: Mapping[str, Any], shape: tuple[int, ...]) -> tuple[float, float]:
    """The largest k of n squares are at least k / n of their sum."""
    return min(1.0, resolve_rank(params["k"], shape) / min(shape)), 1.0


def _spectrum_bounds(params: Mapping[str, Any], shape: tuple[int, ...]) -> tuple[float, float]:
    """The i-th of n squares, descending, is at most 1 / i of their sum; the first at least 1 / n."""
    index = SPECTRUM.index(params["index"]) + 1
    return (min(shape) ** -0.5 if index == 1 else 0.0), index**-0.5


def update_norm(update: Update) -> float:
    """``|D_t|_F``, >= 0, in the unit of the weights. Source: arXiv 2606.07082.

    >>> update_norm(Update(Base(torch.eye(2)), torch.tensor([[1.0, 3.0], [4.0, 1.0]])))
    5.0
    """
    return update.norm


def relative_update_norm(update: Update) -> float:
    """``|D_t|_F / |W0|_F``: a ratio, >= 0. Source: arXiv 2606.07082; arXiv 2606.13657.

    >>> before = torch.diag(torch.tensor([6.0, 8.0]))
    >>> relative_update_norm(Update(Base(before), 1.5 * before))
    0.5

    Raises:
        Undefined: W0 is zero.
    """
    if update.base.norm == 0:
        raise Undefined("W0 is zero, so the update norm has nothing to be relative to")
    return update.norm / update.base.norm


def stable_rank(update: Update) -> float:
    """``|D_t|_F^2 / |D_t|_op^2``: a number from 1 to min(out, in). Source: arXiv 2606.07082.

    >>> spread = torch.diag(torch.tensor([2.0, 2.0, 1.0]))  # (4 + 4 + 1) / 4
    >>> round(stable_rank(Update(Base(torch.zeros(3, 3)), spread)), 6)
    2.25

    Raises:
        Undefined: D_t is zero.
    """
    update.require_change()
    return max(1.0, (update.norm / float(update.spectrum.top_values(1)[0])) ** 2)


def stable_rank_ceiling(update: Update) -> float:
    """What the stable rank is at most, ``|D_t|_F^2 / |D_t v|^2``, with a v of unit length near the top singular vector.

    >>> spread = torch.diag(torch.tensor([2.0, 2.0, 1.0]))
    >>> round(stable_rank_ceiling(Update(Base(torch.zeros(3, 3)), spread)), 6)
    2.25

    Raises:
        Undefined: D_t is zero.
    """
    update.require_change()
    reached, most = update.spectrum.top_reached, float(min(update.shape))
    return min(most, max(1.0, (update.norm / reached) ** 2)) if reached else most


def effective_rank(update: Update) -> float:
    """``exp(-sum p_i log p_i)``, ``p_i = sigma_i / sum of sigma``: from 1 to min(out, in).

    Source: Roy and Vetterli, EUSIPCO 2007. By all singular values of D_t: a float64 factorization of it.

    >>> spread = torch.diag(torch.tensor([2.0, 1.0, 1.0]))  # entropy of 1/2, 1/4, 1/4: 1.5 log 2
    >>> round(effective_rank(Update(Base(torch.zeros(3, 3)), spread)), 6)
    2.828427

    Raises:
        Undefined: D_t is zero.
    """
    update.require_change()
    size = min(update.shape)
    sigma = update.spectrum.top_values(size, within=VALUE_ERRORS[-1])
    entropy = torch.special.entr(sigma / sigma.sum()).sum()
    return min(float(size), max(1.0, float(entropy.exp())))


def hill_exponent(update: Update, k: int = 16) -> float:
    """Hill estimate of the tail of D_t's spectrum, ``1 / mean_{i<k} log(sigma_i / sigma_k)``, > 0.

    The mean runs over i = 1..k-1. Source: arXiv 2606.07082, which does not state k.

    >>> halving = torch.diag(torch.tensor([4.0, 2.0, 1.0]))  # 1 / mean(log 4, log 2) = 1 / (1.5 log 2)
    >>> round(hill_exponent(Update(Base(torch.zeros(3, 3)), halving), k=3), 6)
    0.961797

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
    """Share of ``|D_t|_F^2`` in its k largest singular values, 0..1. Source: arXiv 2606.13657.

    >>> update = Update(Base(torch.zeros(2, 2)), torch.diag(torch.tensor([3.0, 4.0])))
    >>> round(top_energy(update, k=1), 6)  # 16 of 25
    0.64

    Raises:
        Undefined: D_t is zero.
    """
    update.require_change()
    top = torch.linalg.vector_norm(update.spectrum.top_values(k)).item()
    return min(1.0, (top / update.norm) ** 2)


def update_spectrum(update: Update) -> dict[str, float]:
    """The 16 largest singular values of D_t relative to ``|D_t|_F``: shares 0..1, descending, 0 beyond the rank.

    >>> update = Update(Base(torch.zeros(2, 2)), torch.diag(torch.tensor([3.0, 4.0])))
    >>> [round(share, 6) for share in update_spectrum(update).values()][:3]
    [0.8, 0.6, 0.0]

    Raises:
        Undefined: D_t is zero.
    """
    update.require_change()
    top = update.spectrum.top_values(min(len(SPECTRUM), *update.shape))
    shares: list[float] = (top / update.norm).clamp(max=1.0).tolist()
    return dict(zip(SPECTRUM, shares + [0.0] * (len(SPECTRUM) - len(shares)), strict=True))


def rounding_share(update: Update) -> float:
    """Share of ``|D_t|_F^2`` that rounding W_t to its storage format explains: sum of ulp^2 / 12, at most 1.

    Rounding noise is full-rank: where this share is large, metrics that are `inflated_by_rounding` describe it rather
    than the training. One step of bf16, from 1 to its neighbour, is explained to a twelfth:

    >>> before = torch.tensor([[1.0]], dtype=torch.bfloat16)
    >>> round(rounding_share(Update(Base(before), before + 2**-7)), 6)
    0.083333

    Raises:
        Undefined: D_t is zero.
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
    limited_by="stable_rank_ceiling",
    source="arXiv 2606.07082",
    undefined="D_t = 0",
    compute=scalar(stable_rank),
    words=Words(
        "Over how many directions the update spreads: 1 is a single direction, larger is more diffuse.",
        "The update spreads over more directions than it should: it is more diffuse, as supervised fine-tuning is.",
        "The update collapsed into fewer directions than it should have.",
    ),
    distrust="Rounding to bf16 is full-rank and inflates it where updates are small: a true 6.7 read 23.3 at 11% "
    "support. Prefer fp32 checkpoints.",
    drawn="trajectory",
    published=Published(
        levels=(Level("sft", "grows from about 20 to 75", 20, 75), Level("opd", "flat, about 20 to 30", 20, 30)),
        remark="RLVR contracts (no figures given).",
    ),
    example=(20, 30),
    synonyms=("rank", "srank", "numerical_rank", "sr", "stablerank", "update_rank"),
    akin=("participation_ratio",),
)

STABLE_RANK_CEILING = Metric(
    name="stable_rank_ceiling",
    title="ceiling of the stable rank",
    definition="|D_t|_F^2 / |D_t v|^2, v of unit length by a few power iterations",
    unit=Unit.NUMBER,
    low=1.0,
    bounds=STABLE_RANK.bounds,
    source="any unit v has |D_t v| <= |D_t|_op",
    undefined="D_t = 0",
    inner=True,
    compute=scalar(stable_rank_ceiling),
)

EFFECTIVE_RANK = Metric(
    name="effective_rank",
    title="effective rank",
    definition="exp(-sum p_i log p_i), p_i = sigma_i / sum of sigma over all singular values of D_t",
    unit=Unit.NUMBER,
    low=1.0,
    bounds=lambda _, shape: (1.0, float(min(shape))),
    at_most="min(out, in)",
    baseline="about 0.8 n for square n x n matrices of normal entries",
    source="Roy and Vetterli, The effective rank, EUSIPCO 2007",
    undefined="D_t = 0",
    on_request=True,
    compute=scalar(effective_rank),
    words=Words(
        "Over how many directions the update spreads, weak ones included: 1 is a single direction.",
        "The update spreads over more directions than it should, weak ones included.",
        "The update collapsed into fewer directions than it should have, weak ones included.",
    ),
    distrust="The many weak directions decide it, and rounding to bf16 makes them: prefer fp32 checkpoints, or "
    "stable_rank. It is a full float64 factorization of D_t at each checkpoint. Other papers take squares of sigma, "
    "which is another figure.",
    example=(100, 1000),
    synonyms=("erank", "entropy_rank", "effective_dimension", "spectral_entropy"),
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
    words=FARTHER,
    distrust="It grows with the steps and with the size of the matrix: compare runs at matching steps.",
    inflated_by_rounding=False,
    follows=Follows("relative_update_norm", "it is relative_update_norm times the norm of W0"),
    drawn="map",
    published=BY_TRAINING,
    example=(0.1, 1),
    synonyms=(
        "norm",
        "frobenius",
        "frobenius_norm",
        "fro_norm",
        "delta_norm",
        "l2",
        "l2_norm",
        "weight_change",
        "distance",
    ),
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
    words=replace(FARTHER, shows="How large the whole change of a weight matrix is, compared with the matrix itself."),
    distrust="It grows with the steps: compare runs at matching steps.",
    inflated_by_rounding=False,
    drawn="trajectory",
    published=BY_TRAINING,
    example=(1e-4, 1e-3),
    synonyms=(
        "relative_norm",
        "relative_change",
        "drift",
        "weight_drift",
        "relative_drift",
        "rel_norm",
        "norm_ratio",
        "delta_ratio",
    ),
)

HILL_EXPONENT = Metric(
    name="hill_exponent",
    title="Hill tail estimate",
    definition="1 / mean_{i<k} log(sigma_i / sigma_k) over the top k singular values of D_t",
    unit=Unit.NUMBER,
    parameters=(HILL_K,),
    source="arXiv 2606.07082 (k not stated there)",
    undefined="D_t = 0, its rank is below k, or its k largest singular values are equal",
    compute=scalar(hill_exponent, "k"),
    words=Words(
        "How evenly the strongest directions of the update share it: small means that a few dominate.",
        "The strongest directions of the update are more even than they should be.",
        "A few directions dominate the update more than they should.",
    ),
    distrust="It depends on k, which the paper does not state: compare figures of one k alone.",
    drawn="trajectory",
    published=Published(remark="The paper draws this figure without stating its k: no reference values."),
    example=(1, 3),
    synonyms=(
        "alpha",
        "hill",
        "hill_alpha",
        "hill_estimator",
        "power_law",
        "powerlaw",
        "power_law_exponent",
        "power_law_alpha",
        "tail_exponent",
        "tail_index",
        "heavy_tail",
        "heavy_tailed",
    ),
)

TOP_ENERGY = share(
    name="top_energy",
    title="top-k energy",
    definition="sum of the k largest sigma_i(D_t)^2 / |D_t|_F^2",
    bounds=_energy_bounds,
    parameters=(TOP_K,),
    source="arXiv 2606.13657",
    undefined="D_t = 0",
    compute=scalar(top_energy, "k"),
    words=Words(
        "How much of the update its strongest directions hold.",
        "The update is concentrated in fewer directions than it should be.",
        "The update is spread over more directions than it should be.",
    ),
    distrust="The largest k of n directions hold at least k / n of any update, which is much in small matrices.",
    example=("40%", "60%"),
    synonyms=("energy", "top_k_energy", "topk_energy", "explained_variance", "energy_share", "spectral_energy"),
)

UPDATE_SPECTRUM = share(
    name="update_spectrum",
    title="singular spectrum of the update",
    definition="sigma_i(D_t) / |D_t|_F for the 16 largest singular values",
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
    words=Words(
        "How strong one direction of the update is, as a share of the update's size.",
        "This direction of the update is stronger than it should be.",
        "This direction of the update is weaker than it should be.",
    ),
    distrust="It is meant for reports; bands are better put around stable_rank or top_energy, which sum it up.",
    follows=Follows("stable_rank", "its first value is 1 / sqrt(stable_rank)"),
    drawn="spectrum",
    example=("18%", "22%"),
    synonyms=("spectrum", "singular_values", "singular_value", "sigma", "svd", "s"),
)

ROUNDING_SHARE = share(
    name="rounding_share",
    title="rounding-noise share",
    definition="sum of ulp(w_t)^2 / 12 / |D_t|_F^2, at most 1",
    source="geomcheck",
    undefined="D_t = 0",
    of_entries=True,
    compute=scalar(rounding_share),
    words=Words(
        "How much of the update the rounding of stored numbers explains: where it is large, figures describe rounding.",
        "Rounding explains too much of the update for its figures to describe the training.",
        "Rounding explains less of the update than demanded.",
    ),
    distrust="It takes rounding errors as independent and uniform; of W_t that was never rounded (an fp32 master, or "
    "weights computed in bf16 alone) it tells what rounding could explain.",
    inflated_by_rounding=False,  # it is what the others are warned by
    follows=Follows("", "it describes how weights are stored, not how they were trained"),
    example=("1%", "10%"),
    synonyms=("rounding", "rounding_noise", "bf16_noise", "quantization_noise"),
)
