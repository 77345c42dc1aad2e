"""How many entries visibly change: update sparsity, its complement, and overlap between two runs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from geomcheck._lazy import late
from geomcheck.diagnostics.declaration import Parameter, scalar, share
from geomcheck.diagnostics.reading import Follows, Level, Published, Words
from geomcheck.errors import Undefined

if TYPE_CHECKING:
    from geomcheck.diagnostics import storage
    from geomcheck.diagnostics.update import Update
else:
    storage = late("geomcheck.diagnostics.storage")

CAST = Parameter(
    name="cast",
    kind="choice",
    choices=("bf16", "none"),
    default="bf16",
    about="Compare after a cast of both sides to bf16 (the paper's test), or as stored.",
)
ETA = Parameter(
    name="eta",
    kind="number",
    low=0.0,
    high=1.0,
    default=1e-3,
    example=1e-3,
    about="Relative tolerance of the changed test. After the bf16 cast every eta below 2^-8 is bit equality, "
    "and larger values are refused.",
)

DISTRUST = (
    "It is mostly step size times steps. Another definition is another figure: an absolute tolerance of 1e-5 moved one "
    "pair of models from 54% to 78% sparsity."
)
MORE, LESS = (f"Training {what} of the network than it should have." for what in ("rewrote more", "touched less"))


def update_support(update: Update, *, cast: str = "bf16", eta: float = 1e-3) -> float:
    """Fraction of entries that visibly changed, 0..1: one minus the update sparsity.

    Source: arXiv 2606.07082, Table 1 (bf16-aware update sparsity). Of two changes, bf16 shows the larger:

    >>> before, after = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[1.0, 2.0], [3.001, 5.0]])
    >>> [update_support(Update(Base(before), after), cast=cast, eta=1e-4) for cast in ("bf16", "none")]
    [0.25, 0.5]
    """
    if cast == "bf16":
        return update.density
    changed = storage.relatively_changed(update.base.w0, update.wt, eta)
    return storage.count(changed) / storage.size(changed)


def update_sparsity(update: Update, *, cast: str = "bf16", eta: float = 1e-3) -> float:
    """Fraction of entries that did not visibly change, 0..1. Source: arXiv 2606.07082, Table 1.

    >>> update_sparsity(Update(Base(torch.eye(2)), torch.tensor([[1.0, 0.0], [0.5, 1.0]])))
    0.75
    """
    return 1.0 - update_support(update, cast=cast, eta=eta)


def mask_jaccard(update: Update, reference: Update) -> float:
    """Jaccard overlap of the visible-update masks of two runs from one base, 0..1.

    Chance level for densities p and q: ``p q / (p + q - p q)``. Source: arXiv 2511.08567.

    >>> base, both, one = Base(torch.zeros(2, 2)), torch.eye(2), torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    >>> mask_jaccard(Update(base, both), Update(base, one))
    0.5

    Raises:
        Undefined: neither run visibly changed the matrix.
    """
    union = storage.count(update.changed | reference.changed)
    if union == 0:
        raise Undefined("no entry visibly changed in either run, so the overlap of their masks is undefined")
    return storage.count(update.changed & reference.changed) / union


def sign_flips(update: Update) -> float:
    """Share of entries whose sign changed, 0..1: positive before and negative after, or the reverse; zero has no sign.

    Of four entries one crosses zero, and one ends there:

    >>> before, after = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[-1.0, 0.0], [2.0, 5.0]])
    >>> sign_flips(Update(Base(before), after))
    0.25
    """
    return storage.opposite_signs(update.base.w0, update.wt) / update.wt.numel()


def frozen_share(update: Update) -> float:
    """1 where W_t equals W0 in every entry, else 0; its mean over weights is the share of frozen weights.

    >>> [frozen_share(Update(Base(torch.eye(2)), after)) for after in (torch.eye(2), torch.ones(2, 2))]
    [1.0, 0.0]
    """
    return float(update.is_zero)


UPDATE_SPARSITY = share(
    name="update_sparsity",
    title="update sparsity",
    definition="share of entries with |w_t - w_0| <= eta max(|w_0|, |w_t|) after a cast of both to bf16",
    parameters=(CAST, ETA),
    fold="weighted",
    source="arXiv 2606.07082, Table 1; arXiv 2511.08567, Table 1",
    when_unchanged=True,
    of_entries=True,
    compute=scalar(update_sparsity),
    words=Words("The share of single numbers in the weights that did not visibly change.", high=LESS, low=MORE),
    distrust=DISTRUST,
    inflated_by_rounding=False,
    follows=Follows("update_support", "it is 1 - update_support"),
    example=("45%", "60%"),
    synonyms=(
        "sparsity",
        "sparse",
        "bf16_sparsity",
        "bf16_update_sparsity",
        "unchanged_share",
        "unchanged",
        "parameter_sparsity",
    ),
)

UPDATE_SUPPORT = share(
    name="update_support",
    title="update support",
    definition="1 - update sparsity: share of entries that visibly changed",
    parameters=(CAST, ETA),
    fold="weighted",
    source="arXiv 2606.07082, Table 1",
    when_unchanged=True,
    of_entries=True,
    compute=scalar(update_support),
    words=Words("The share of single numbers in the weights that visibly changed.", high=MORE, low=LESS),
    distrust=DISTRUST,
    inflated_by_rounding=False,
    drawn="trajectory",
    published=Published(
        levels=(Level("sft", "91.9%", 0.919), Level("opd", "48.4%", 0.484), Level("rlvr", "22.8%", 0.228))
    ),
    example=("40%", "55%"),
    synonyms=(
        "support",
        "density",
        "update_density",
        "changed",
        "changed_share",
        "changed_fraction",
        "update_fraction",
        "nonzero",
    ),
)

MASK_JACCARD = share(
    name="mask_jaccard",
    title="mask Jaccard overlap",
    definition="|M & M'| / |M | M'| of the visible-update masks of this run and the reference",
    baseline="p q / (p + q - p q) for mask densities p, q",
    source="arXiv 2511.08567 (0.55 to 0.60 for five runs from one base, chance 0.43 to 0.45)",
    undefined="neither run visibly changed the matrix",
    against_reference=True,
    chance=lambda _params, _shape, pq: math.prod(pq) / (sum(pq) - math.prod(pq)) if sum(pq) else 0.0,
    of_entries=True,
    compute=lambda update, _, run: {"value": mask_jaccard(update, run.reference())},
    words=Words(
        "How far this run and the reference changed the same numbers.",
        "The two runs changed the same numbers more often than they should.",
        "The two runs changed different numbers: they did not take the same path.",
    ),
    distrust="Compare it with chance, p q / (p + q - p q) for the densities p and q of the two masks: dense updates "
    "overlap whatever they do.",
    inflated_by_rounding=False,
    example=("50%", "65%"),
    synonyms=("jaccard", "iou", "mask_iou", "mask_overlap", "update_overlap", "subnetwork_overlap"),
)

FROZEN_SHARE = share(
    name="frozen_share",
    title="frozen share",
    definition="share of weights whose W_t equals W_0 in every entry",
    source="geomcheck",
    when_unchanged=True,
    of_entries=True,
    compute=scalar(frozen_share),
    words=Words(
        "The share of weight matrices that never changed.",
        "More weight matrices stayed frozen than should have.",
        "Weight matrices changed that should have stayed frozen.",
    ),
    distrust="One changed entry makes a matrix count as trained, a cast to another format included.",
    inflated_by_rounding=False,
    example=("10%", "50%"),
    synonyms=("frozen", "frozen_fraction", "frozen_layers", "frozen_weights", "untrained"),
)

SIGN_FLIPS = share(
    name="sign_flips",
    title="sign flips",
    definition="share of entries with w_0 w_t < 0",
    baseline="arctan(|D_t| / |W_0|) / pi of normal entries, if changes ignored the size of the weights they hit",
    fold="weighted",
    source="geomcheck; signs are what a pruned network keeps of its training, arXiv 1905.01067",
    when_unchanged=True,
    of_entries=True,
    on_request=True,
    compute=scalar(sign_flips),
    words=Words(
        "The share of single numbers in the weights that changed their sign.",
        "More weights changed their sign than should have.",
        "Fewer weights changed their sign than should have.",
    ),
    distrust="Small weights flip first, so it follows the size of the update: compare it with arctan(r) / pi, r being "
    "relative_update_norm. Where updates are small, rounding to bf16 hides no flip, and makes none.",
    inflated_by_rounding=False,
    example=("0.1%", "2%"),
    synonyms=("sign_flip", "sign_changes", "sign_change", "flipped_signs", "sign_flip_rate"),
)
