"""How a weight moves from checkpoint to checkpoint: where its update points, how far each increment goes and whether
the next goes on, how straight the whole way is. All from inner products; nothing is factorized."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from geomcheck._lazy import late, torch
from geomcheck.diagnostics.declaration import REFERENCE, Metric, Parameter, RunView, Unit, scalar, share
from geomcheck.diagnostics.reading import Follows, Words
from geomcheck.errors import Undefined

if TYPE_CHECKING:
    from geomcheck.diagnostics import path
    from geomcheck.diagnostics.path import Path
    from geomcheck.diagnostics.update import Update
else:
    path = late("geomcheck.diagnostics.path")

TO = Parameter(
    name="to",
    kind="checkpoint",
    choices=(REFERENCE,),
    default="last",
    about="The checkpoint whose update it is compared with, or `reference`: the reference run's at matching progress.",
)

BY_HAND = Follows(
    "",
    "figures of the path repeat each other, and each band widens all others: name one with --metrics to have it judged",
)
"""Why calibration takes none of these by itself."""


def update_cosine(update: Update, other: Update) -> float:
    """``<D, D'> / (|D| |D'|)`` of two updates of one W0: -1..1. Source: arXiv 2605.11739.

    >>> base, one = Base(torch.eye(2)), torch.tensor([[1.0, 3.0], [0.0, 1.0]])
    >>> [update_cosine(Update(base, one), Update(base, 2 * torch.eye(2) - one)), update_cosine(Update(base, one),
    ...     Update(base, one.T))]
    [-1.0, 0.0]

    Raises:
        Undefined: one of the updates is zero.
    """
    return path.cosine(path.inner(update.base.w0, update.stored, other.stored), update.norm, other.norm)


def increment_norm(walked: Path, base_norm: float) -> float:
    """``|W_t - W_(t-1)|_F / |W0|_F``: a ratio, >= 0; at the first checkpoint W_(t-1) is W0.

    Three to the right, then four up, where W0 is of norm 10:

    >>> way = path.path_of(torch.zeros(1, 2), (1, 2), torch.tensor([[[3.0, 0.0]], [[3.0, 4.0]]]).__getitem__)
    >>> [increment_norm(way.until(0), 10.0), increment_norm(way, 10.0)]
    [0.3, 0.4]

    Raises:
        Undefined: W0 is zero.
    """
    if base_norm == 0:
        raise Undefined("W0 is zero, so the norm of the increment has nothing to be relative to")
    return float(walked.lengths[-1]) / base_norm


def increment_cosine(walked: Path) -> float:
    """Cosine of the last increment with the one before, -1..1.

    >>> way = path.path_of(torch.zeros(1, 2), (1, 2), torch.tensor([[[3.0, 0.0]], [[3.0, 4.0]]]).__getitem__)
    >>> increment_cosine(way)
    0.0

    Raises:
        Undefined: one of them is zero, or there is only one.
    """
    if len(walked.steps) < 2:
        raise Undefined("the first increment has none before it")
    before, last = walked.lengths[-2:].tolist()
    if not before or not last:
        raise Undefined("W_t equals the checkpoint before it" if not last else "the weight did not move just before")
    return path.cosine(float(walked.turns[-1]), before, last)


def path_efficiency(walked: Path) -> float:
    """Displacement over path length, ``|D_t| / sum of |I_s|, s <= t``: 0..1, and 1 on a straight way.

    >>> way = path.path_of(torch.zeros(1, 2), (1, 2), torch.tensor([[[3.0, 0.0]], [[3.0, 4.0]]]).__getitem__)
    >>> round(path_efficiency(way), 6)  # 5 of 7
    0.714286

    Raises:
        Undefined: the weight never moved.
    """
    length = float(walked.lengths.sum())
    if not length:
        raise Undefined("W_t equals W0 at every checkpoint so far")
    return min(1.0, float(walked.gram[-1, -1].sqrt()) / length)


def trajectory_rank(walked: Path) -> float:
    """Share of the leading eigenvalue of G up to t: of ``|D_1|^2 + ... + |D_t|^2`` along the best one direction, 0..1.

    >>> way = path.path_of(torch.zeros(1, 2), (1, 2), torch.tensor([[[3.0, 0.0]], [[3.0, 4.0]]]).__getitem__)
    >>> round(trajectory_rank(way), 6)  # G is [[9, 9], [9, 25]]
    0.854165

    Raises:
        Undefined: the weight never moved.
    """
    total = float(walked.gram.trace())
    if not total:
        raise Undefined("W_t equals W0 at every checkpoint so far")
    return min(1.0, float(torch.linalg.eigvalsh(walked.gram / total)[-1]))


def linearity(walked: Path) -> float:
    """R^2 of all entries against the step, of lines through W0: 0..1.

    With steps tau_1 .. tau_t, the best line of each entry through zero has the slope ``B = sum tau_s D_s / tau^T tau``.
    What it leaves of the sum of squares, ``sum |D_s - tau_s B|^2``, is ``tr G - tau^T G tau / tau^T tau``, hence
    ``R^2 = tau^T G tau / (tau^T tau tr G)``. As tau / |tau| is one direction of all, it is at most `trajectory_rank`.

    >>> way = path.path_of(torch.zeros(1, 2), (1, 2), torch.tensor([[[3.0, 0.0]], [[3.0, 4.0]]]).__getitem__)
    >>> round(linearity(way), 6)  # (9 + 2 * 18 + 100) / (5 * 34)
    0.852941

    Raises:
        Undefined: the weight never moved, or there is no step but 0.
    """
    total, tau = float(walked.gram.trace()), torch.tensor(walked.steps).double()
    if not total:
        raise Undefined("W_t equals W0 at every checkpoint so far")
    if not tau.any():
        raise Undefined("every checkpoint is at step 0, so there is nothing to be linear in")
    tau /= torch.linalg.vector_norm(tau)
    return max(0.0, min(1.0, float(tau @ (walked.gram / total) @ tau)))


def decay_share(update: Update) -> float:
    """``<D_t, W0> / (|D_t| |W0|)``: -1..1. Decay shrinks W0 and is negative, -1 where nothing else happened.

    >>> round(decay_share(Update(Base(torch.eye(2)), 0.9 * torch.eye(2))), 6)
    -1.0

    Raises:
        Undefined: D_t or W0 is zero.
    """
    update.require_change()
    if update.base.norm == 0:
        raise Undefined("W0 is zero, so the update has no component along it")
    return path.cosine(path.along_base(update.base.w0, update.stored), update.norm, update.base.norm)


def _cosine(update: Update, params: Mapping[str, Any], run: RunView) -> Mapping[str, float]:
    if params["to"] == REFERENCE:
        return {"value": update_cosine(update, run.reference())}
    return {"value": run.cosine(params["to"])}


def _of_path(figure: Callable[[Path], float]) -> Callable[[Update, Mapping[str, Any], RunView], Mapping[str, float]]:
    return lambda _update, _params, run: {"value": figure(run.path())}


UPDATE_COSINE = Metric(
    name="update_cosine",
    title="cosine of the update",
    definition="<D_t, D_s> / (|D_t| |D_s|), D_s: the update at another checkpoint, or of a reference run",
    unit=Unit.NUMBER,
    low=-1.0,
    high=1.0,
    baseline="0, give or take 1 / sqrt(out in), for unrelated updates; about sqrt(t / s) along a random walk, t < s",
    chance=lambda *_: 0.0,
    parameters=(TO,),
    source="EffOPD, arXiv 2605.11739 (with the last: above .8 from the first 0-30% of OPD on, from 60-80% of RL)",
    undefined="D_t = 0 or D_s = 0",
    of_entries=True,
    across=True,
    of_path=True,
    trivial_at="to",
    compute=_cosine,
    words=Words(
        "Whether the update points where another one does: 1 is the same way, 0 no relation, -1 the opposite.",
        "The update points where the other one does more than it should.",
        "The update points elsewhere than it should: below zero it is reversed.",
    ),
    distrust="Rounding to bf16 lowers it where updates are small: a true .94 read .37. It rises to 1 at the checkpoint "
    "that it compares with, by construction. A reference must start from the same W0, and from another one it says 0.",
    follows=BY_HAND,
    example=(0.9, 0.98),
    synonyms=("cosine", "cos", "cosine_similarity", "delta_cosine", "direction_cosine", "task_vector_cosine"),
)

INCREMENT_NORM = Metric(
    name="increment_norm",
    title="norm of the increment",
    definition="|W_t - W_(t-1)|_F / |W_0|_F, W_(t-1): the checkpoint before, W_0 before the first",
    unit=Unit.FRACTION,
    source="geomcheck; relative as relative_update_norm is",
    undefined="W_0 is zero",
    of_entries=True,
    when_unchanged=True,
    across=True,
    of_path=True,
    compute=lambda update, _, run: {"value": increment_norm(run.path(), update.base.norm)},
    words=Words(
        "How far a weight matrix moved since the checkpoint before, compared with the matrix itself.",
        "The weights moved further between checkpoints than they should have.",
        "The weights moved less between checkpoints than they should have: 0 is a stale weight.",
    ),
    distrust="It grows with the steps between two checkpoints: compare runs that save at the same steps. Rounding to "
    "bf16 inflates it where increments are small.",
    follows=BY_HAND,
    example=(1e-4, 1e-3),
    synonyms=("increment", "step_norm", "increment_size", "delta_per_checkpoint", "step_size", "movement"),
)

INCREMENT_COSINE = Metric(
    name="increment_cosine",
    title="cosine of successive increments",
    definition="<I_t, I_(t-1)> / (|I_t| |I_(t-1)|), I_t = W_t - W_(t-1)",
    unit=Unit.NUMBER,
    low=-1.0,
    high=1.0,
    baseline="0, give or take 1 / sqrt(out in), along a random walk; -0.5 where rounding is all that changes",
    source="geomcheck",
    undefined="W_t or W_(t-1) equals the checkpoint before it",
    of_entries=True,
    across=True,
    of_path=True,
    least=2,
    compute=_of_path(increment_cosine),
    words=Words(
        "Whether the training goes on where it went before: 1 is straight on, 0 a right angle, -1 back.",
        "The training goes straight on more than it should.",
        "The training turns more than it should: near or below zero, checkpoints are exchanged or it was restarted.",
    ),
    distrust="Rounding to bf16 lowers it where increments are small: a true .95 read .10. The shorter the way between "
    "checkpoints, the more noise of single batches is in it.",
    follows=BY_HAND,
    example=(0.8, 0.99),
    synonyms=("successive_cosine", "step_cosine", "turning_angle", "persistence", "momentum_cosine"),
)

PATH_EFFICIENCY = share(
    name="path_efficiency",
    title="path efficiency",
    definition="|D_t| / sum over s <= t of |W_s - W_(s-1)|",
    baseline="1 / sqrt(t) after t equal increments of a random walk",
    source="geomcheck; the straightness index of movement ecology",
    undefined="D_t = 0",
    of_entries=True,
    across=True,
    of_path=True,
    least=2,
    compute=_of_path(path_efficiency),
    words=Words(
        "How straight the way of the weights is so far: 1 is a straight line, 0 is back at the start.",
        "The weights went straighter than they should have.",
        "The weights went a detour: they turned, went back, or were restarted.",
    ),
    distrust="It falls with the number of checkpoints: compare runs that save at the same steps. Rounding to bf16 "
    "lengthens the path: a true .96 read .56.",
    follows=BY_HAND,
    example=("85%", "99%"),
    synonyms=("efficiency", "straightness", "displacement_ratio", "tortuosity", "path_length"),
)

TRAJECTORY_RANK = share(
    name="trajectory_rank",
    title="rank-1 share of the trajectory",
    definition="lambda_1(G) / tr G, G_su = <D_s, D_u> for s, u <= t",
    baseline="about 0.81 along a long random walk, and 1 / t for unrelated updates of one size",
    source="RELEX, arXiv 2605.21468 (per-tensor rank-1 trajectories)",
    undefined="D_t = 0",
    of_entries=True,
    across=True,
    of_path=True,
    least=2,
    compute=_of_path(trajectory_rank),
    words=Words(
        "How much of the updates so far lies along one direction: 1 is all of it.",
        "The updates keep to one direction more than they should.",
        "The updates spread over several directions more than they should.",
    ),
    distrust="It is near 1 for most: a random walk has 0.81, so that 0.9 is not much. Rounding to bf16 lowers it: a "
    "true .99 read .84. Late checkpoints, which are largest, decide it.",
    follows=BY_HAND,
    example=("95%", "99.5%"),
    synonyms=("rank1_share", "rank_one_share", "leading_eigenvalue_share", "trajectory_dimension", "rank_1"),
)

LINEARITY = share(
    name="linearity",
    title="linearity in the step",
    definition="R^2 = tau^T G tau / (tau^T tau tr G) of D_s = tau_s B, tau_s: the steps up to t, G_su = <D_s, D_u>",
    baseline="about 0.8 along a long random walk at even steps",
    source="RLVR-Linearity, arXiv 2601.04537 (R^2 above .7 for most single weights); pooled here, of lines through W_0",
    undefined="D_t = 0, or every step is 0",
    of_entries=True,
    across=True,
    of_path=True,
    least=2,
    compute=_of_path(linearity),
    words=Words(
        "How well a steady drift from the start explains every update so far: 1 is in proportion to the steps.",
        "The weights drift more steadily than they should.",
        "The weights did not move in proportion to the steps.",
    ),
    distrust="Steps are counted from W_0: where they go on from an earlier stage it is too low. A learning rate that "
    "decays lowers it on a straight way, as trajectory_rank, which is at least as large, tells. Rounding to bf16 "
    "lowers it.",
    follows=BY_HAND,
    example=("90%", "99%"),
    synonyms=("r2", "r_squared", "linear_fit", "linear_drift"),
)

DECAY_SHARE = Metric(
    name="decay_share",
    title="component along W0",
    definition="<D_t, W_0> / (|D_t| |W_0|): negative where W_0 shrinks",
    unit=Unit.NUMBER,
    low=-1.0,
    high=1.0,
    baseline="0, give or take 1 / sqrt(out in)",
    source="geomcheck",
    undefined="D_t = 0 or W_0 is zero",
    of_entries=True,
    compute=scalar(decay_share),
    words=Words(
        "How much of the update scales the weight matrix itself: -1 is pure weight decay, 0 none, 1 pure growth.",
        "The update scales the weights up more than it should.",
        "The update is decay, towards zero, more than it should be: the gradient may not arrive.",
    ),
    distrust="Near 0 it says little: a gradient that pulls outward hides decay. Rounding to bf16 makes it smaller.",
    follows=BY_HAND,
    example=(-0.1, 0.1),
    synonyms=("decay", "weight_decay", "shrinkage", "radial_component", "base_cosine"),
)
