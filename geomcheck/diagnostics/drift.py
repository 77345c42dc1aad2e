"""How far the singular-value spectrum of a weight moves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from geomcheck.diagnostics.declaration import Metric, Unit, scalar
from geomcheck.diagnostics.null import EXCESS_OVER, with_null
from geomcheck.errors import Undefined

if TYPE_CHECKING:
    from geomcheck.diagnostics.update import Update


def spectral_shift(update: Update) -> float:
    """Normalized spectral shift (NSS), ``|sigma(W_t) - sigma(W0)|_2 / |sigma(W0)|_2``, >= 0.

    At most the relative update norm (Mirsky). Source: arXiv 2606.07082 and 2511.08567.

    Raises:
        Undefined: W0 is zero.
    """
    if update.base.norm == 0:
        raise Undefined("W0 is zero, so there is no spectrum to compare with")
    return update.shift_norm / update.base.norm


def spectral_share(update: Update) -> float:
    """Share of the update that moves singular values, ``|sigma(W_t) - sigma(W0)|_2 / |D_t|_F``, 0..1 (Mirsky).

    Near 0.03 for structureless updates of 1024-wide matrices, 0.17 to 0.28 for updates inside the principal
    subspace, 1 for a rescaling.
    """
    update.require_change()
    return min(1.0, update.shift_norm / update.norm)


SPECTRAL_SHIFT = Metric(
    name="spectral_shift",
    title="normalized spectral shift (NSS)",
    definition="|sigma(W_t) - sigma(W_0)|_2 / |sigma(W_0)|_2",
    unit=Unit.FRACTION,
    source="arXiv 2606.07082; arXiv 2511.08567",
    undefined="W_0 is zero",
    when_unchanged=True,
    compute=scalar(spectral_shift),
)

SPECTRAL_SHARE = Metric(
    name="spectral_share",
    title="spectral share",
    definition="|sigma(W_t) - sigma(W_0)|_2 / |D_t|_F",
    unit=Unit.FRACTION,
    high=1.0,
    parameters=(EXCESS_OVER,),
    source="geomcheck; bounded by Mirsky's inequality",
    undefined="D_t = 0",
    compute=with_null(scalar(spectral_share)),
)
