"""Where visible changes fall: on the principal entries of W0, or on its small ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from geomcheck.diagnostics.declaration import Parameter, scalar, share
from geomcheck.diagnostics.null import EXCESS_OVER, equally_visible, with_null
from geomcheck.diagnostics.reading import Follows, Words
from geomcheck.errors import Undefined

if TYPE_CHECKING:
    from geomcheck.diagnostics.update import Update

ALPHA = Parameter(
    name="alpha",
    kind="number",
    low=0.01,
    high=0.99,
    default=0.3,
    example="30%",
    about="Fraction of the entries that the mask holds; the paper reports 0.3, its appendix uses 0.5.",
)
RANK = Parameter(
    name="rank",
    kind="rank",
    default=64,
    spans=False,  # the mask is then of W0's own entries, and what changes may fall on them or not
    about="Rank of the truncated SVD of W0 whose largest entries are the principal mask.",
)

OF_DENSITY = Follows("update_support", "it follows the density of the update, as a structureless update's does")
DISTRUST = (
    "It follows the density of the update: large weights need large steps to be seen in bf16, so that a structureless "
    "update of the paper's densities reproduces the paper's low overlaps. Judge the excess, with excess_over: shuffled."
)


def principal_overlap(update: Update, *, rank: int = 64, alpha: float = 0.3) -> float:
    """Share of the visible changes that fall on the principal mask, ``|M_princ & M| / |M|``, 0..1.

    M holds the entries whose bf16 values differ, M_princ the top-alpha fraction of entries, by magnitude, of the
    rank-`rank` truncated SVD of W0. Chance gives alpha, but only for changes that ignore the size of the weight they
    hit: judge the excess over the permutation null. Source: arXiv 2511.08567; arXiv 2606.07082.

    Two entries change, and one of them is the quarter that the rank-1 part of W0 holds:

    >>> before, after = torch.diag(torch.tensor([4.0, 1.0])), torch.diag(torch.tensor([5.0, 2.0]))
    >>> principal_overlap(Update(Base(before), after), rank=1, alpha=0.25)
    0.5

    Raises:
        Undefined: nothing visibly changed, or W0 has no unique rank-`rank` truncation. Where its rank is lower, it is
            its own.
    """
    _require_visible(update)
    return update.base.principal_mask(rank, alpha).share_of(update.changed)


def low_magnitude_overlap(update: Update, *, alpha: float = 0.3) -> float:
    """Share of the visible changes that fall on the alpha smallest entries of W0 by magnitude, 0..1.

    Source and caveat as for `principal_overlap`.

    >>> before, after = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[0.0, 2.0], [3.0, 5.0]])
    >>> low_magnitude_overlap(Update(Base(before), after), alpha=0.25)
    0.5

    Raises:
        Undefined: nothing visibly changed.
    """
    _require_visible(update)
    return update.base.low_magnitude_mask(alpha).share_of(update.changed)


def _require_visible(update: Update) -> None:
    if update.density == 0:
        raise Undefined("no entry visibly changed in bf16, so the overlap with a mask is undefined")


PRINCIPAL_OVERLAP = share(
    name="principal_overlap",
    title="principal-mask overlap",
    definition="|M_princ & M| / |M|; M_princ: top-alpha entries of the rank-r truncated SVD of W_0",
    baseline="alpha, if changes ignored the size of the weights they hit",
    parameters=(ALPHA, RANK, EXCESS_OVER),
    source="arXiv 2606.07082; arXiv 2511.08567",
    undefined="no entry visibly changed, or W_0 has no unique rank-r truncation",
    compute=with_null(scalar(principal_overlap, "rank"), equally_visible),
    words=Words(
        "How many of the visible changes fall on the weights that matter most to the matrix.",
        "Changes fall on the most important weights more often than they should.",
        "Changes avoid the most important weights more than they should.",
    ),
    distrust=DISTRUST,
    inflated_by_rounding=False,
    follows=OF_DENSITY,
    example=("15%", "29%"),
    synonyms=("principal_mask_overlap", "principal_weights", "princ_overlap", "on_principal"),
)

LOW_MAGNITUDE_OVERLAP = share(
    name="low_magnitude_overlap",
    title="low-magnitude-mask overlap",
    definition="|M_low & M| / |M|; M_low: bottom-alpha entries of |W_0|",
    baseline="alpha, if changes ignored the size of the weights they hit",
    parameters=(ALPHA, EXCESS_OVER),
    source="arXiv 2606.07082; arXiv 2511.08567",
    undefined="no entry visibly changed",
    of_entries=True,
    compute=with_null(scalar(low_magnitude_overlap), equally_visible),
    words=Words(
        "How many of the visible changes fall on the smallest weights.",
        "Changes favour small weights more than they should.",
        "Changes fall on small weights less often than they should.",
    ),
    distrust=DISTRUST,
    inflated_by_rounding=False,
    follows=OF_DENSITY,
    example=("45%", "60%"),
    synonyms=("low_magnitude", "small_weights", "low_mask_overlap", "magnitude_overlap", "small_magnitude_overlap"),
)
