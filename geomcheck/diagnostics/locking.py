"""When the cumulative update settles in its subspace: alignment between checkpoints, energy in a channel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from geomcheck._lazy import torch
from geomcheck.diagnostics.declaration import Parameter, RunView, resolve_rank, share
from geomcheck.diagnostics.reading import Published, Words
from geomcheck.errors import Undefined

if TYPE_CHECKING:
    from torch import Tensor

    from geomcheck.diagnostics.update import Update

CHANNEL_K = Parameter(name="k", kind="rank", default=16, about="Dimension K of the channel V_K.")
CHANNEL_SIDE = Parameter(
    name="side",
    kind="choice",
    choices=("right", "left"),
    default="right",
    about="Right singular subspaces V_K (the paper's), or left ones U_K.",
)
TO = Parameter(name="to", kind="checkpoint", default="last", about="The checkpoint whose channel is the reference.")
FROM = Parameter(
    name="from",
    kind="checkpoint",
    default={"progress": "20%"},
    about="The checkpoint whose V_K is the channel; the paper takes the one nearest 20% of training.",
)


def _alignment_bounds(params: Mapping[str, Any], shape: tuple[int, ...]) -> tuple[float, float]:
    """Two subspaces of dimension k in n dimensions share 2k - n of them at the least."""
    k, ambient = resolve_rank(params["k"], shape), shape[params["side"] == "right"]
    return min(1.0, max(0.0, 2 - ambient / k)), 1.0


def alignment(channel: Tensor, other: Tensor) -> float:
    """Sim_K, ``|V_K^T V'_K|_F^2 / K``, 0..1; K / in for random channels.

    Args:
        channel, other: orthonormal columns, shape (in, K).

    Source: arXiv 2606.07082 ("V16 alignment").

    Two planes that share one of their two directions:

    >>> axes = torch.eye(3)
    >>> round(alignment(axes[:, :2], axes[:, 1:]), 6)
    0.5
    """
    overlap = torch.linalg.vector_norm(channel.T @ other).item() ** 2 / channel.shape[1]
    return min(1.0, overlap)


def subspace_energy(update: Update, channel: Tensor) -> float:
    """Share of the update inside a channel V, ``|D_t V|_F^2 / |D_t|_F^2``, 0..1; that of D_t V V^T is equal.

    Args:
        channel: orthonormal columns, shape (in, K).

    Source: arXiv 2606.07082 (the static side of projected training).

    >>> update = Update(Base(torch.zeros(2, 2)), torch.diag(torch.tensor([3.0, 4.0])))
    >>> round(subspace_energy(update, torch.eye(2)[:, 1:]), 6)  # 16 of 25
    0.64

    Raises:
        Undefined: D_t is zero.
    """
    update.require_change()
    return update.energy(channel)


def top_channel(update: Update, k: int, side: str) -> Tensor:
    """Top-k right (or left) singular subspace of D_t: orthonormal columns, shape (in, k) or (out, k).

    >>> update = Update(Base(torch.zeros(2, 2)), torch.diag(torch.tensor([3.0, 4.0])))
    >>> top_channel(update, 1, "right").abs().tolist()
    [[0.0], [1.0]]

    Raises:
        Undefined: D_t is zero, has rank below k, or tied singular values at k.
    """
    if update.is_zero:
        raise Undefined("the update is zero there, so it has no singular subspace")
    return update.spectrum.right(k) if side == "right" else update.spectrum.left(k)


def _aligned(update: Update, params: Mapping[str, Any], run: RunView) -> Mapping[str, float]:
    k, side = resolve_rank(params["k"], update.shape), params["side"]
    return {"value": alignment(run.channel("this", k, side), run.channel(params["to"], k, side))}


def _energy(update: Update, params: Mapping[str, Any], run: RunView) -> Mapping[str, float]:
    k = resolve_rank(params["k"], update.shape)
    return {"value": subspace_energy(update, run.channel(params["from"], k, "right"))}


def _aligned_with_reference(update: Update, params: Mapping[str, Any], run: RunView) -> Mapping[str, float]:
    k, side = resolve_rank(params["k"], update.shape), params["side"]
    return {"value": alignment(top_channel(update, k, side), top_channel(run.reference(), k, side))}


SUBSPACE_ALIGNMENT = share(
    name="subspace_alignment",
    title="subspace alignment",
    definition="Sim_K(t, s) = |V_K(t)^T V_K(s)|_F^2 / K, V_K: top-K right singular vectors of D_t",
    bounds=_alignment_bounds,
    baseline="K / in",
    parameters=(CHANNEL_K, TO, CHANNEL_SIDE),
    source="arXiv 2606.07082",
    undefined="D_t = 0 at either checkpoint, its rank is below K, or its singular values are tied at K",
    across=True,
    trivial_at="to",
    compute=_aligned,
    words=Words(
        "How much of the update's final directions was already there at each checkpoint: 100% is all of it.",
        "The update settled into its final directions earlier than it should have.",
        "The update had not yet found its final directions: it kept turning while it should have been settled.",
    ),
    distrust="It rises to 1 at the checkpoint that it compares with, by construction: only early values say something. "
    "Chance gives K / in, which is much in small matrices.",
    drawn="trajectory",
    published=Published(
        remark="OPD is high from the first checkpoint on, SFT and RLVR rise gradually (no figures given)."
    ),
    example=("60%", "90%"),
    synonyms=(
        "v",
        "sim",
        "sim_k",
        "v_k",
        "alignment",
        "v_alignment",
        "subspace_similarity",
        "subspace_overlap",
        "locking",
        "subspace_locking",
        "subspace_lock",
    ),
)

SUBSPACE_ENERGY = share(
    name="subspace_energy",
    title="energy in an early channel",
    definition="|D_t V V^T|_F^2 / |D_t|_F^2, V = V_K of an early checkpoint",
    baseline="K / in",
    parameters=(CHANNEL_K, FROM),
    source="arXiv 2606.07082",
    undefined="D_t = 0, or the channel's checkpoint has rank below K or tied singular values at K",
    across=True,
    compute=_energy,
    words=Words(
        "How much of the update stays inside the directions that it had found early in training.",
        "The update stays in its early directions more than it should.",
        "The update left its early directions: it does not stay in the channel that it started in.",
    ),
    distrust="Near the channel's own checkpoint it is high by construction. Chance gives K / in, which is much in "
    "small matrices.",
    example=("50%", "90%"),
    synonyms=("channel_energy", "early_energy", "subspace_share", "energy_in_channel"),
)

REFERENCE_ALIGNMENT = share(
    name="reference_alignment",
    title="alignment with the reference",
    definition="Sim_K(D_t, D'_t) = |V_K^T V'_K|_F^2 / K, V_K: top-K right singular vectors of this run's update and "
    "of the reference's at matching progress; U_K with side: left",
    bounds=_alignment_bounds,
    baseline="K / in; K / out with side: left",
    parameters=(CHANNEL_K, CHANNEL_SIDE),
    source="geomcheck, after Sim_K of arXiv 2606.07082",
    undefined="either update is zero, its rank is below K, or its singular values are tied at K",
    against_reference=True,
    chance=lambda params, shape, _: resolve_rank(params["k"], shape) / shape[params["side"] == "right"],
    compute=_aligned_with_reference,
    words=Words(
        "How far this run and the reference changed the weights along the same directions.",
        "The two runs went along the same directions more than they should.",
        "The two runs went along different directions: they did not take the same path.",
    ),
    distrust="Chance gives K / in, which is much in small matrices; and both runs must start from the same W0. Of LoRA "
    "adapters compare with side: left: inputs are set by the random start of A and outputs by the loss, so that two "
    "seeds agree on u_1 at .99 and on v_1 at .07 (arXiv 2606.23740).",
    example=("30%", "80%"),
    synonyms=("alignment_with_reference", "reference_similarity", "cross_run_alignment"),
)
