"""How far the singular-value spectrum of a weight moves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from geomcheck.diagnostics.declaration import Metric, Unit, scalar, share
from geomcheck.diagnostics.null import EXCESS_OVER, with_null
from geomcheck.diagnostics.reading import Level, Published, Words
from geomcheck.errors import Undefined

if TYPE_CHECKING:
    from geomcheck.diagnostics.update import Update


def spectral_shift(update: Update) -> float:
    """Normalized spectral shift (NSS), ``|sigma(W_t) - sigma(W0)|_2 / |sigma(W0)|_2``: a ratio, >= 0.

    Both spectra hold min(out, in) singular values in descending order. At most the relative update norm (Mirsky).
    Source: arXiv 2606.07082 and 2511.08567.

    >>> before, after = torch.diag(torch.tensor([3.0, 4.0])), torch.diag(torch.tensor([3.0, 4.5]))
    >>> round(spectral_shift(Update(Base(before), after)), 6)
    0.1

    Raises:
        Undefined: W0 is zero.
    """
    if update.base.norm == 0:
        raise Undefined("W0 is zero, so there is no spectrum to compare with")
    return update.shift_norm / update.base.norm


def spectral_share(update: Update) -> float:
    """Share of the update that moves singular values, ``|sigma(W_t) - sigma(W0)|_2 / |D_t|_F``, 0..1 (Mirsky).

    1 for a rescaling, and 0 where the singular values are only attached to other directions:

    >>> stretched, swapped = torch.diag(torch.tensor([1.0, 3.0])), torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    >>> [round(spectral_share(Update(Base(torch.eye(2)), after)), 6) for after in (stretched, swapped)]
    [1.0, 0.0]

    Raises:
        Undefined: D_t is zero.
    """
    update.require_change()
    return min(1.0, update.shift_norm / update.norm)


SPECTRAL_SHIFT = Metric(
    name="spectral_shift",
    title="normalized spectral shift (NSS)",
    definition="|sigma(W_t) - sigma(W_0)|_2 / |sigma(W_0)|_2",
    unit=Unit.FRACTION,
    source="arXiv 2606.07082; arXiv 2511.08567",
    limited_by="relative_update_norm",
    undefined="W_0 is zero",
    when_unchanged=True,
    compute=scalar(spectral_shift),
    words=Words(
        "How much the strengths (singular values) of each weight matrix changed, relative to what they were.",
        "The strengths of the weight matrices changed more than they should have.",
        "The strengths of the weight matrices changed less than they should have.",
    ),
    distrust="It is at most relative_update_norm, so a small update cannot have a large one: read both together.",
    inflated_by_rounding=False,
    drawn="trajectory",
    published=Published(
        levels=(Level("sft", "10⁻³ level", 1e-3), Level("opd", "10⁻⁴ level", 1e-4), Level("rlvr", "10⁻⁵ level", 1e-5))
    ),
    example=(5e-5, 5e-4),
    synonyms=(
        "nss",
        "normalized_spectral_shift",
        "normalised_spectral_shift",
        "spectral_drift",
        "spectrum_shift",
        "singular_value_shift",
        "sigma_shift",
    ),
)

SPECTRAL_SHARE = share(
    name="spectral_share",
    title="spectral share",
    definition="|sigma(W_t) - sigma(W_0)|_2 / |D_t|_F",
    parameters=(EXCESS_OVER,),
    source="geomcheck; bounded by Mirsky's inequality",
    undefined="D_t = 0",
    compute=with_null(scalar(spectral_share)),
    words=Words(
        "How much of the change went into the strengths of the weight matrix rather than into its directions.",
        "More of the change went into the strengths of the weights than should have.",
        "Less of the change went into the strengths of the weights than should have.",
    ),
    distrust="Even an update without structure has some, about 0.03 for matrices 1024 wide and more for smaller ones "
    "(0.17 to 0.28 inside the principal subspace): judge the excess, with excess_over: shuffled.",
    example=("15%", "30%"),
    synonyms=("spectral_fraction", "spectrum_share"),
)
