"""Intruder dimensions: main directions of W_t that W0 has none of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from geomcheck._lazy import torch
from geomcheck.diagnostics.declaration import Metric, Parameter, Unit, resolve_rank, scalar
from geomcheck.diagnostics.reading import Words
from geomcheck.errors import Undefined

if TYPE_CHECKING:
    from geomcheck.diagnostics.update import Update

TOP = Parameter(
    name="k",
    kind="rank",
    default=10,
    spans=False,  # the directions of all of W_t may be others than those of W0
    about="How many of W_t's main directions are looked at; PEFT looks at 10.",
)
EPSILON = Parameter(
    name="epsilon",
    kind="number",
    low=0.0,
    high=1.0,
    default=0.5,
    example=0.5,
    about="A direction whose every cosine with one of W0's is below it, in magnitude, is an intruder.",
    synonyms=("eps", "threshold", "threshold_epsilon"),
)


def intruder_dimensions(update: Update, *, k: int = 10, epsilon: float = 0.5) -> float:
    """How many of W_t's k main left singular vectors are like none of W0's: 0..k.

    The count of j <= k with ``max_i |<u_j(W_t), u_i(W0)>| < epsilon``, over all i up to the rank of W0. Source: arXiv
    2410.21228; `reduce_intruder_dimension` of PEFT.

    A large step along a third output, where W0 has the first two only:

    >>> before = torch.tensor([[2.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    >>> after = before + torch.tensor([[0.0, 0.0], [0.0, 0.0], [9.0, 0.0]])
    >>> intruder_dimensions(Update(Base(before), after), k=1)
    1.0

    Raises:
        Undefined: W_t has rank below k, or one of its k largest singular values is tied; W0 is zero, or so tied that
            it depends on the choice of its directions.
    """
    if update.is_zero:
        return 0.0
    _, directions = update.current.left_vectors(k)
    values, own = update.base.factorization.left_vectors()
    if not len(values):
        raise Undefined("W0 is zero, so it has no directions")
    group = update.base.factorization.groups(values)
    sizes = torch.bincount(group).to(own.dtype)[:, None]
    within = own.new_zeros(len(sizes), directions.shape[1]).index_add_(0, group, (own.T @ directions).square())
    # among directions of one singular value, the largest cosine may be any between these, by the choice of them
    surely, possibly = (energies.max(0).values.sqrt() for energies in (within / sizes, within))
    if ((surely < epsilon) & (possibly >= epsilon)).any():
        raise Undefined("singular values of W0 are tied, so its directions are not unique")
    return float((possibly < epsilon).sum())


def _bounds(params: Mapping[str, Any], shape: tuple[int, ...]) -> tuple[float, float]:
    return 0.0, float(resolve_rank(params["k"], shape))


INTRUDER_DIMENSIONS = Metric(
    name="intruder_dimensions",
    title="intruder dimensions",
    definition="count of j <= k with max_i |<u_j(W_t), u_i(W_0)>| < epsilon, u: left singular vectors",
    unit=Unit.NUMBER,
    bounds=_bounds,
    at_most="k",
    baseline="0 for updates that are small next to W_0; a direction at random counts, its largest cosine being about "
    "sqrt(2 ln(n) / out), n = min(out, in)",
    parameters=(TOP, EPSILON),
    source="arXiv 2410.21228; reduce_intruder_dimension of PEFT",
    undefined="the rank of W_t is below k, one of its k largest singular values is tied, W_0 is zero, or a tie of W_0 "
    "decides",
    when_unchanged=True,
    on_request=True,
    compute=scalar(intruder_dimensions, "k"),
    words=Words(
        "How many of the main directions of each weight matrix are new, like none of the original's: LoRA at a high "
        "learning rate makes them, and forgets more.",
        "The training put new directions above those that the base model had.",
        "Fewer new directions appeared than should have.",
    ),
    distrust="Two directions of W0 whose singular values are near each other mix under small updates, and pass for "
    "new: keep k to the few that stand apart. It factorizes W0 and every W_t in float64: the dearest of all metrics.",
    inflated_by_rounding=False,
    example=(0, 1),
    synonyms=("intruders", "intruder_dimension", "intruder", "intruder_count", "new_directions"),
)
